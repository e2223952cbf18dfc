import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { makeFolder } from '../../../src/cli/file/folder.ts';

let parent: string;
beforeAll(async () => {
  parent = await mkdtemp(join(tmpdir(), 'loom-folder-'));
});
afterAll(() => rm(parent, { recursive: true, force: true }));

it('makeFolder creates missing parents and leaves an existing folder alone', async () => {
  for (const name of ['a/b/c/', 'a', 'a/b/../d', 'a/b/c']) {
    const path = join(parent, name);
    await makeFolder(path);
    expect((await stat(path)).isDirectory()).toBe(true);
  }
  // Two concurrent calls both succeed.
  await Promise.all([makeFolder(join(parent, 'x/y/z')), makeFolder(join(parent, 'x/y/z'))]);
  await makeFolder('.');
});

it('makeFolder rejects where no folder can exist, instead of retrying forever', async () => {
  await expect(makeFolder('/proc/loom')).rejects.toThrow('ENOENT');
  await expect(makeFolder('/proc/loom/below')).rejects.toThrow('ENOENT');
  const file = join(parent, 'file');
  await writeFile(file, '');
  await expect(makeFolder(file)).rejects.toThrow('EEXIST');
  await expect(makeFolder(join(file, 'below'))).rejects.toThrow('ENOTDIR');
});
