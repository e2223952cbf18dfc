import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import {
  type FileRule,
  filesAreShort,
  importCycles,
  importsOf,
  importsPointOneWay,
  linkedPaths,
  namesNoRegistry,
  namesNoWorkplace,
  patternsAreKept,
  type SourceFile,
  strangeRootEntries,
} from './house-rules.ts';

const root = new URL('../../', import.meta.url);
const rootNames = await readdir(root);
const code = await readFiles(['src', 'test'], /\.ts$/);
const prose = [
  ...(await readFiles(['docs', 'migrations', 'test/fixtures'], /\.(?:md|sql)$/)),
  ...(await Promise.all(
    rootNames.filter((name) => /\.md$|^Dockerfile$|^\.(?:npmrc|env\.example)$/.test(name)).map(read),
  )),
  ...(await Promise.all(['package.json', 'package-lock.json', 'tsconfig.json', '.ci/run'].map(read))),
];

describe('the house is in order', () => {
  test('the root holds what was agreed, and nothing else', () => {
    expect(strangeRootEntries(rootNames)).toEqual([]);
  });

  test.each([
    ['imports point one way', importsPointOneWay],
    ['patterns that the house forbids do not occur', patternsAreKept],
    ['files are short', filesAreShort],
    ['no code names a machine', namesNoWorkplace],
  ])('%s', (_name, rule) => {
    expect(code.length).toBeGreaterThan(0);
    expect(code.flatMap(rule)).toEqual([]);
  });

  test('no text names a machine or a registry', () => {
    expect(prose.flatMap(namesNoWorkplace)).toEqual([]);
    expect(prose.flatMap(namesNoRegistry)).toEqual([]);
  });

  test('the linter refuses the type any, and bare assertions that something is not null', async () => {
    const { linter } = JSON.parse((await read('.biome.json')).text);
    expect(linter.rules.suspicious.noExplicitAny).toBe('error');
    expect(linter.rules.style.noNonNullAssertion).toBe('error');
  });

  test('there is no import cycle', () => {
    expect(importCycles(code)).toEqual([]);
  });

  test('every relative link of the documents leads to a file', () => {
    const links = prose.filter(({ path }) => path.endsWith('.md')).flatMap((file) => linkedPaths(file));
    expect(links.filter((path) => !existsSync(new URL(path, root)))).toEqual([]);
  });
});

describe('each rule finds what it is there for', () => {
  // Joined here, so that the rules do not find them in this file.
  const samples: [FileRule, string, string][] = [
    [importsPointOneWay, 'src/http/a.ts', `import { b } from '../persistence/b.ts';`],
    [importsPointOneWay, 'src/persistence/a.ts', `import type { b } from '../http/b.ts';`],
    [importsPointOneWay, 'src/backup/a.ts', `import pg from 'pg';`],
    [importsPointOneWay, 'src/node.ts', `import copy from 'pg-copy-streams';`],
    [importsPointOneWay, 'src/node.ts', `import {\n  fastify,\n} from 'fastify';`],
    [importsPointOneWay, 'src/cli/a.ts', `const { b } = await import('@fastify/b');`],
    [importsPointOneWay, 'src/domain/a.ts', `import { readFile } from 'node:fs';`],
    [importsPointOneWay, 'src/json/a.ts', `export { config } from '../config.ts';`],
    [importsPointOneWay, 'src/errors.ts', `import 'zod';`],
    [importsPointOneWay, 'src/node.ts', `import { main } from './main.ts';`],
    [importsPointOneWay, 'src/node.ts', `import { log } from './log.js';`],
    [patternsAreKept, 'src/config/config.ts', `const port = process.env.LOOM_PORT;`],
    [patternsAreKept, 'src/cli/a.ts', 'process.exit(1);'],
    [patternsAreKept, 'src/node.ts', `process.once('SIGTERM', close);`],
    [patternsAreKept, 'src/domain/a.ts', 'const now = Date.now();'],
    [patternsAreKept, 'src/a.ts', ['export', 'default 1;'].join(' ')],
    [patternsAreKept, 'src/a.ts', ['export', `* from './b.ts';`].join(' ')],
    [patternsAreKept, 'src/a.ts', ['// biome-', 'ignore lint/suspicious/noExplicitAny: later'].join('')],
    [patternsAreKept, 'test/a.test.ts', ['test', `skip('later', run);`].join('.')],
    [patternsAreKept, 'test/a.test.ts', ['describe', `only('this', run);`].join('.')],
    [patternsAreKept, 'src/a.ts', ['// TO', 'DO: later'].join('')],
    [filesAreShort, 'src/a.ts', 'line\n'.repeat(351)],
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
      'src/persistence/a.ts',
      `import type { Pool } from 'pg';\nimport { b } from '../domain/b.ts';`,
    ],
    [importsPointOneWay, 'src/domain/a.ts', `import { createHash } from 'node:crypto';`],
    [patternsAreKept, 'src/main.ts', `process.exit(await run(process.env));`],
    [filesAreShort, 'src/a.ts', 'line\n'.repeat(350)],
    [namesNoWorkplace, 'docs/a.md', 'src/workers and https://example.org/work and ./work'],
    [namesNoRegistry, 'package-lock.json', '{ "url": "https://opencollective.com/a" }'],
  ];

  test('and leaves good work alone', () => {
    expect(good.flatMap(([rule, path, text]) => rule({ path, text }))).toEqual([]);
  });

  test('a strange entry, a cycle and a dead link are found', () => {
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
