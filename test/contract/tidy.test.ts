import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path/posix';
import { describe, expect, test } from 'vitest';
import { errorCodes } from '../../src/errors.ts';
import { limits } from '../../src/limits.ts';
import {
  type FileRule,
  filesAreShort,
  findCycles,
  importCycles,
  importsOf,
  importsPointOneWay,
  linkedPaths,
  namesNoRegistry,
  namesNoWorkplace,
  patternsAreKept,
  type SourceFile,
  statesStayApart,
  strangeRootEntries,
} from './rules/house-rules.ts';
import {
  arrowLines,
  crowdedFolders,
  foldersWithoutHeader,
  measureArrows,
  readDiagram,
  readRoomTable,
  roomOf,
  sentencesAreShort,
  wordsArePlain,
} from './rules/rooms.ts';

const root = new URL('../../', import.meta.url);
const rootNames = await readdir(root);
const code = await readFiles(['src', 'test'], /\.ts$/);
const source = code.filter(({ path }) => path.startsWith('src/'));
const prose = [
  ...(await readFiles(['docs', 'migrations', 'test/fixtures'], /\.(?:md|sql)$/)),
  ...(await readFiles(['docs/deploy'], /\.\w+$/)),
  ...(await Promise.all(
    rootNames.filter((name) => /\.md$|^Dockerfile$|^\.(?:npmrc|env\.example)$/.test(name)).map(read),
  )),
  ...(await Promise.all(['package.json', 'package-lock.json', 'tsconfig.json', '.ci/run'].map(read))),
];

describe('the repository follows its rules', () => {
  test('the root holds only the agreed entries', () => {
    expect(strangeRootEntries(rootNames)).toEqual([]);
  });

  test.each([
    ['imports point one way', importsPointOneWay],
    ['no file has a forbidden pattern', patternsAreKept],
    ['no file is too long', filesAreShort],
    ['no code names a path of a machine', namesNoWorkplace],
    ['no code has a word that the project does not use', wordsArePlain],
    ['no statement reads or changes the rows of several states', statesStayApart],
  ])('%s', (_name, rule) => {
    expect(code.length).toBeGreaterThan(0);
    expect(code.flatMap(rule)).toEqual([]);
  });

  test('no page has a word that the project does not use', () => {
    expect(prose.flatMap(wordsArePlain)).toEqual([]);
  });

  test('every sentence of a page is short', () => {
    expect(prose.flatMap(sentencesAreShort)).toEqual([]);
  });

  test('no text names a path of a machine or a registry', () => {
    expect(prose.flatMap(namesNoWorkplace)).toEqual([]);
    expect(prose.flatMap(namesNoRegistry)).toEqual([]);
  });

  test('the linter refuses the type any, non-null assertions and long functions', async () => {
    const { linter, overrides } = JSON.parse((await read('.biome.json')).text);
    expect(linter.rules.suspicious.noExplicitAny).toBe('error');
    expect(linter.rules.style.noNonNullAssertion).toBe('error');
    expect(overrides).toContainEqual({
      includes: ['src/**'],
      linter: {
        rules: { complexity: { noExcessiveLinesPerFunction: { level: 'error', options: { maxLines: 80 } } } },
      },
    });
  });

  test('there is no import cycle', () => {
    expect(importCycles(code)).toEqual([]);
  });

  test('docs/architecture.md lists every room, and exactly the imports between rooms that the code has', async () => {
    const { text } = await read('docs/architecture.md');
    expect(readDiagram(text)).toEqual(arrowLines(measureArrows(source)));
    expect(readRoomTable(text)).toEqual([...measureArrows(source).keys()].sort());
  });

  test('there is no cycle of rooms', () => {
    expect(findCycles(measureArrows(source))).toEqual([]);
  });

  test('every folder of src has one main file, with a header', () => {
    expect(foldersWithoutHeader(source)).toEqual([]);
  });

  test('no folder holds too many files', () => {
    expect(crowdedFolders(code)).toEqual([]);
  });

  test('every limit is used', () => {
    const text = source
      .filter(({ path }) => !path.startsWith('src/limits'))
      .map((file) => file.text)
      .join('');
    expect(Object.keys(limits).filter((name) => !new RegExp(`\\b${name}\\b`).test(text))).toEqual([]);
  });

  test('every error code is thrown', () => {
    const text = source
      .filter(({ path }) => path !== 'src/errors.ts')
      .map((file) => file.text)
      .join('');
    expect(errorCodes().filter(({ code }) => !text.includes(`'${code}'`))).toEqual([]);
  });

  test('README.md links to every page of docs', () => {
    const pages = prose.map(({ path }) => path).filter((path) => /^docs\/(?!deploy\/)/.test(path));
    const linked = prose.filter(({ path }) => path === 'README.md').flatMap(linkedPaths);
    expect(pages.filter((path) => !linked.includes(path))).toEqual([]);
  });

  test('docs/deploy.md links to every file of docs/deploy, or to its folder', () => {
    const files = prose.map(({ path }) => path).filter((path) => path.startsWith('docs/deploy/'));
    const linked = prose.filter(({ path }) => path === 'docs/deploy.md').flatMap(linkedPaths);
    const isLinked = (path: string): boolean => linked.includes(path) || linked.includes(dirname(path));
    expect(files.length).toBeGreaterThan(10);
    expect(files.filter((path) => (path.split('/').length > 3 ? !isLinked(path) : !linked.includes(path)))).toEqual([]);
  });

  test('every relative link in a page leads to a file', () => {
    const links = prose.filter(({ path }) => path.endsWith('.md')).flatMap((file) => linkedPaths(file));
    expect(links.filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
  });
});

describe('each rule finds its fault', () => {
  // The parts are joined at run time, so that the rules do not find them in this file.
  const samples: [FileRule, string, string][] = [
    [importsPointOneWay, 'src/http/a.ts', `import { b } from '../persistence/b.ts';`],
    [importsPointOneWay, 'src/persistence/a.ts', `import type { b } from '../http/b.ts';`],
    [importsPointOneWay, 'src/backup/a.ts', `import pg from 'pg';`],
    [importsPointOneWay, 'src/persistence/read/a.ts', `import type { Pool } from 'pg';`],
    [importsPointOneWay, 'src/node.ts', `import { startServer } from './dev/postgres.ts';`],
    [importsPointOneWay, 'src/node.ts', `import copy from 'pg-copy-streams';`],
    [importsPointOneWay, 'src/node.ts', `import {\n  fastify,\n} from 'fastify';`],
    [importsPointOneWay, 'src/cli/a.ts', `const { b } = await import('@fastify/b');`],
    [importsPointOneWay, 'src/object-store/names.ts', `import type { S3Client } from '@aws-sdk/client-s3';`],
    [importsPointOneWay, 'src/domain/a.ts', `import { readFile } from 'node:fs';`],
    [importsPointOneWay, 'src/json/a.ts', `export { config } from '../config.ts';`],
    [importsPointOneWay, 'src/errors.ts', `import 'zod';`],
    [importsPointOneWay, 'src/node.ts', `import { main } from './main.ts';`],
    [importsPointOneWay, 'src/node.ts', `import { log } from './log.js';`],
    [patternsAreKept, 'src/config/config.ts', `const port = process.env.LOOM_PORT;`],
    [patternsAreKept, 'src/cli/a.ts', 'process.exit(1);'],
    [patternsAreKept, 'src/node.ts', `process.once('SIGTERM', close);`],
    [patternsAreKept, 'src/node.ts', 'function close(host: NodeJS.Process): void {}'],
    [patternsAreKept, 'src/domain/a.ts', 'const now = Date.now();'],
    [patternsAreKept, 'src/a.ts', 'const { now = Date.now } = options;'],
    [patternsAreKept, 'src/a.ts', ['export', 'default 1;'].join(' ')],
    [patternsAreKept, 'src/a.ts', ['export', `* from './b.ts';`].join(' ')],
    [patternsAreKept, 'src/a.ts', ['// biome-', 'ignore lint/suspicious/noExplicitAny: later'].join('')],
    [patternsAreKept, 'test/a.test.ts', ['test', `skip('later', run);`].join('.')],
    [patternsAreKept, 'test/a.test.ts', ['describe', `only('this', run);`].join('.')],
    [patternsAreKept, 'src/a.ts', ['// TO', 'DO: later'].join('')],
    [filesAreShort, 'src/a.ts', 'line\n'.repeat(351)],
    [statesStayApart, 'src/persistence/a.ts', 'rows(`select 1 from loom_document where name = $1`)'],
    [
      statesStayApart,
      'src/persistence/a.ts',
      'rows(`select 1 from loom_state s join loom_document d on d.name = $2 where s.state_key = $1`)',
    ],
    [wordsArePlain, 'src/a.ts', '// The living state.'],
    [wordsArePlain, 'docs/a.md', 'The request is given up.'],
    [wordsArePlain, 'README.md', 'A digest does not hold.'],
    [sentencesAreShort, 'README.md', `Short.\n${'one more word '.repeat(9)}.`],
    [namesNoWorkplace, 'docs/a.md', ['see ', 'farm/notes'].join('/')],
    [namesNoWorkplace, 'src/a.ts', [`const a = '`, `work/main';`].join('/')],
    [namesNoRegistry, 'package-lock.json', '{ "resolved": "https://registry.example/a.tgz" }'],
    [namesNoRegistry, '.npmrc', 'registry=https://registry.example/'],
  ];

  test.each(samples.map(([rule, path, text]) => ({ rule, path, text })))('$path: $text', ({ rule, path, text }) => {
    expect(rule({ path, text })).toHaveLength(1);
  });

  const good: [FileRule, string, string][] = [
    [
      importsPointOneWay,
      'src/persistence/connection/a.ts',
      `import type { Pool } from 'pg';\nimport { b } from '../../domain/b.ts';`,
    ],
    [importsPointOneWay, 'src/domain/a.ts', `import { createHash } from 'node:crypto';`],
    [patternsAreKept, 'src/main.ts', `process.exit(await run(process.env));`],
    [filesAreShort, 'src/a.ts', 'line\n'.repeat(350)],
    [
      statesStayApart,
      'src/persistence/a.ts',
      'rows(`select 1 from loom_meta`, `delete from loom_audit where state_key = $1`)',
    ],
    [wordsArePlain, 'docs/runbook.md', 'the living state'],
    [sentencesAreShort, 'README.md', `${'Word '.repeat(24)}end. ${'Word '.repeat(24)}end.`],
    [namesNoWorkplace, 'docs/a.md', 'src/workers and https://example.org/work and ./work'],
    [namesNoRegistry, 'package-lock.json', '{ "url": "https://opencollective.com/a" }'],
  ];

  test('no rule finds a fault in good files', () => {
    expect(good.flatMap(([rule, path, text]) => rule({ path, text }))).toEqual([]);
  });

  test('rooms, arrows, cycles, headers and crowded folders', () => {
    expect(
      ['src/log.ts', 'src/cli/file/a.ts', 'src/persistence/read/a.ts', 'src/http/client/a.ts'].map(roomOf),
    ).toEqual(['log', 'cli', 'persistence/read', 'http/client']);
    const files = [
      { path: 'src/a/a.ts', text: `/** What a is for; it may import b. */\nimport { b } from '../b/b.ts';` },
      { path: 'src/b/b.ts', text: `import { a } from '../a/a.ts';\n` },
      ...Array.from({ length: 15 }, (_, index) => ({ path: `src/b/b${index}.ts`, text: '' })),
    ];
    const arrows = measureArrows(files);
    expect(arrowLines(arrows)).toEqual(['a → b', 'b → a']);
    expect(findCycles(arrows)).toEqual(['a → b → a']);
    expect(foldersWithoutHeader(files)).toEqual(['src/b has 0 files with a header: ']);
    expect(crowdedFolders(files)).toEqual(['src/b has 16 files, more than 15']);
    expect(readDiagram('```text\na  → b, d\na  → c\n```\n```\nd → e\n```\n')).toEqual(['a → b, c, d']);
  });

  test('a strange entry, a cycle and a dead link', () => {
    expect(strangeRootEntries(['src', '.github', 'README.md', 'utils', 'dist'])).toEqual(['utils']);
    const cycle = [
      { path: 'src/a.ts', text: `import { b } from './b/b.ts';` },
      { path: 'src/b/b.ts', text: `export { a } from '../a.ts';` },
    ];
    expect(importCycles(cycle)).toEqual(['src/a.ts → src/b/b.ts → src/a.ts']);
    const text = '[a](api.md#top) [b](https://example.org) [c](../README.md) [d](#here)';
    expect(linkedPaths({ path: 'docs/index.md', text })).toEqual(['docs/api.md', 'README.md']);
    expect(importsOf(`import a from 'a';\nimport 'b';\nexport const c = 'from "d"';`)).toEqual(['a', 'b']);
  });
});

async function readFiles(folders: string[], name: RegExp): Promise<SourceFile[]> {
  const found = await Promise.all(
    folders
      .filter((folder) => existsSync(new URL(folder, root)))
      .map(async (folder) => {
        const names = await readdir(new URL(`${folder}/`, root), { recursive: true });
        return names.filter((path) => name.test(path)).map((path) => `${folder}/${path}`);
      }),
  );
  return Promise.all([...new Set(found.flat())].map(read));
}

async function read(path: string): Promise<SourceFile> {
  return { path, text: await readFile(new URL(path, root), 'utf8') };
}
