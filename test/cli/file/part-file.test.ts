import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, it } from 'vitest';
import { claimPartFile, writeWhole } from '../../../src/cli/file/part-file.ts';
import { limits } from '../../../src/limits.ts';

let folder: string;
let target: string;

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'loom-part-'));
  target = join(folder, 'file');
  await writeFile(target, 'old');
  return () => rm(folder, { recursive: true, force: true });
});

async function makeOld(path: string, ageMs: number): Promise<void> {
  const time = new Date(Date.now() - ageMs);
  await utimes(path, time, time);
}

it('the target has its old content until the new one is kept', async () => {
  const part = await claimPartFile(target);
  await part.handle.writeFile('new');
  expect(await readFile(target, 'utf8')).toBe('old');
  await part.keep();
  await part.drop();
  expect(await readFile(target, 'utf8')).toBe('new');
  expect(await readdir(folder)).toEqual(['file']);
});

it('what is dropped leaves no trace', async () => {
  const part = await claimPartFile(target);
  await part.handle.writeFile('new');
  await part.drop();
  expect(await readFile(target, 'utf8')).toBe('old');
  expect(await readdir(folder)).toEqual(['file']);
});

it('two cannot claim one file, until the first is done', async () => {
  const first = await claimPartFile(target);
  await expect(claimPartFile(target)).rejects.toThrow('under way');
  await makeOld(first.path, limits.partStaleMs - 10_000);
  await expect(claimPartFile(target)).rejects.toThrow('under way');
  await first.drop();
  await (await claimPartFile(target)).drop();
});

it('a file that was taken for stale is not put in place by the one that made it, nor removed', async () => {
  const slow = await claimPartFile(target);
  await slow.handle.writeFile('slow');
  await makeOld(slow.path, limits.partStaleMs + 1_000);
  const quick = await claimPartFile(target);
  await quick.handle.writeFile('quick');
  await expect(slow.keep()).rejects.toThrow('taken away by somebody else');
  await slow.drop();
  expect(await readFile(target, 'utf8')).toBe('old');
  await quick.keep();
  expect(await readFile(target, 'utf8')).toBe('quick');
});

it('a small file is written as a whole', async () => {
  await writeWhole(target, 'text');
  expect(await readFile(target, 'utf8')).toBe('text');
  await expect(writeWhole(join(folder, 'nowhere', 'file'), 'text')).rejects.toThrow('ENOENT');
});

it('a part is touched several times before it counts as stale', () => {
  expect(limits.partTouchMs * 3).toBeLessThan(limits.partStaleMs);
});
