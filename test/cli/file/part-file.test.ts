import { chmod, lstat, mkdtemp, readdir, readFile, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
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

it('the target keeps its old content until keep', async () => {
  const part = await claimPartFile(target);
  await part.handle.writeFile('new');
  expect(await readFile(target, 'utf8')).toBe('old');
  await part.keep();
  await part.drop();
  expect(await readFile(target, 'utf8')).toBe('new');
  expect(await readdir(folder)).toEqual(['file']);
});

it('only the owner can read the new file, whatever it replaces', async () => {
  await chmod(target, 0o666);
  await writeWhole(target, 'new');
  expect((await stat(target)).mode & 0o777).toBe(0o600);
});

it('a symbolic link at the target is replaced, and its own target stays', async () => {
  const link = join(folder, 'link');
  await symlink(target, link);
  await writeWhole(link, 'new');
  expect([await readFile(link, 'utf8'), await readFile(target, 'utf8')]).toEqual(['new', 'old']);
  expect((await lstat(link)).isSymbolicLink()).toBe(false);
});

it('drop leaves nothing behind', async () => {
  const part = await claimPartFile(target);
  await part.handle.writeFile('new');
  await part.drop();
  expect(await readFile(target, 'utf8')).toBe('old');
  expect(await readdir(folder)).toEqual(['file']);
});

it('a second claim of a file is refused until the first one ends', async () => {
  const first = await claimPartFile(target);
  await expect(claimPartFile(target)).rejects.toThrow('in progress');
  await makeOld(first.path, limits.partStaleMs - 10_000);
  await expect(claimPartFile(target)).rejects.toThrow('in progress');
  await first.drop();
  await (await claimPartFile(target)).drop();
});

it('a process whose part was replaced as stale neither keeps nor removes the new part', async () => {
  const slow = await claimPartFile(target);
  await slow.handle.writeFile('slow');
  await makeOld(slow.path, limits.partStaleMs + 1_000);
  const quick = await claimPartFile(target);
  await quick.handle.writeFile('quick');
  await expect(slow.keep()).rejects.toThrow('Another process has replaced or removed it');
  await slow.drop();
  expect(await readFile(target, 'utf8')).toBe('old');
  await quick.keep();
  expect(await readFile(target, 'utf8')).toBe('quick');
});

it('writeWhole writes a small file completely', async () => {
  await writeWhole(target, 'text');
  expect(await readFile(target, 'utf8')).toBe('text');
  await expect(writeWhole(join(folder, 'nowhere', 'file'), 'text')).rejects.toThrow('ENOENT');
});

it('a part is touched at least three times before it counts as stale', () => {
  expect(limits.partTouchMs * 3).toBeLessThan(limits.partStaleMs);
});
