import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';

const root = new URL('../../', import.meta.url);
const dockerfile = await readFile(new URL('Dockerfile', root), 'utf8');
const stages = parseStages(dockerfile);
const last = stages.at(-1) ?? [];

test('the image has stages, all on the same base, which a build can give by digest', () => {
  const bases = stages.map((stage) => valuesOf(stage, 'FROM')[0]?.split(' ')[0]);
  expect(stages.length).toBeGreaterThan(1);
  // Only an argument before the first stage is for the lines FROM.
  const [ofBases = ''] = dockerfile.split('\nFROM ');
  expect(ofBases).toMatch(/^ARG NODE_IMAGE=docker\.io\/library\/node:24-slim$/m);
  // biome-ignore lint/suspicious/noTemplateCurlyInString: a variable of the Dockerfile
  expect(new Set(bases)).toEqual(new Set(['${NODE_IMAGE}']));
});

test('the labels have the name and version of the package, and arguments of the build follow every file', async () => {
  const { version, description } = JSON.parse(await readFile(new URL('package.json', root), 'utf8'));
  const label = valuesOf(last, 'LABEL')[0] ?? '';
  expect(label).toContain(`org.opencontainers.image.version="${version}"`);
  expect(label).toContain(`org.opencontainers.image.description="${description}"`);
  // So a new revision leaves the layers above it in the builder's cache.
  const instructions = last.map((line) => line.split(' ')[0]);
  expect(instructions.indexOf('ARG')).toBeGreaterThan(instructions.lastIndexOf('COPY'));
});

test('the image holds production dependencies only', () => {
  const source = /--from=(\w+) \S*node_modules/.exec(valuesOf(last, 'COPY').join('\n'))?.[1];
  const installing = stages.find((stage) => valuesOf(stage, 'FROM')[0]?.endsWith(` AS ${source}`)) ?? [];
  expect(valuesOf(installing, 'RUN').join('\n')).toContain('npm ci --omit=dev');
  expect(valuesOf(last, 'RUN')).toEqual([]);
});

test('the node runs without root and without a shell, and answers its health check', async () => {
  const [uid] = (valuesOf(last, 'USER')[0] ?? '0').split(':');
  expect(Number(uid)).toBeGreaterThan(0);
  expect(execForm('ENTRYPOINT')).toEqual(['node', 'dist/main.js']);
  expect(execForm('CMD')).toEqual(['serve']);
  const healthcheck = valuesOf(last, 'HEALTHCHECK')[0] ?? '';
  expect(JSON.parse(healthcheck.slice(healthcheck.indexOf('[')))).toEqual(['node', 'dist/healthcheck.js']);
  const manifest = JSON.parse(await readFile(new URL('package.json', root), 'utf8'));
  expect(manifest.scripts.start).toBe('node dist/main.js serve');
});

test('the node is reachable from outside the image', () => {
  expect(valuesOf(last, 'ENV').join(' ').split(' ')).toContain('LOOM_HOST=0.0.0.0');
});

test('.dockerignore lets exactly the copied files through, and all of them exist', async () => {
  const ignored = (await readFile(new URL('.dockerignore', root), 'utf8')).trim().split('\n');
  const sources = stages
    .flatMap((stage) => valuesOf(stage, 'COPY'))
    .filter((value) => !value.startsWith('--from='))
    .flatMap((value) => value.split(' ').slice(0, -1));
  expect(ignored[0]).toBe('*');
  expect(sources.filter((source) => !existsSync(new URL(source, root)))).toEqual([]);
  expect([...new Set(sources)].sort()).toEqual(
    ignored
      .slice(1)
      .map((line) => line.replace(/^!/, ''))
      .sort(),
  );
});

/** Returns the instructions of each stage, without comments, with continued lines joined. */
function parseStages(dockerfile: string): string[][] {
  const found: string[][] = [];
  for (const line of dockerfile
    .replace(/^#.*\n/gm, '')
    .replace(/\\\n\s*/g, ' ')
    .split('\n')) {
    if (line.startsWith('FROM ')) found.push([]);
    if (line !== '') found.at(-1)?.push(line);
  }
  return found;
}

function valuesOf(stage: string[], instruction: string): string[] {
  return stage.filter((line) => line.startsWith(`${instruction} `)).map((line) => line.slice(instruction.length + 1));
}

function execForm(instruction: string): unknown {
  return JSON.parse(valuesOf(last, instruction)[0] ?? 'null');
}
