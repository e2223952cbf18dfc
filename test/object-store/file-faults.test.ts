import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, link, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { NameTakenError, type ObjectStore } from '../../src/domain/object-store.ts';
import { createFileCalls } from '../../src/object-store/file/file-calls.ts';
import { createFileStore } from '../../src/object-store/file/file-store.ts';
import { openObjectStore } from '../../src/object-store/object-store.ts';
import { mountSmallDisk } from '../faults/small-disk.ts';

const { signal } = new AbortController();
let directory: string;

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'loom-test-files-'));
});

afterEach(() => rm(directory, { recursive: true, force: true }));

const open = (path: string): ObjectStore => openObjectStore({ kind: 'file', directory: path });
const put = (store: ObjectStore, name: string, content: Uint8Array = Buffer.from('content')) =>
  store.put(name, Readable.from([content]), signal);

async function names(store: ObjectStore): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of store.list('', signal)) found.push(name);
  return found;
}

/** Every verb, as an operator meets it in the log. */
const verbs: Record<string, (store: ObjectStore) => Promise<unknown>> = {
  check: (store) => store.check(signal),
  put: (store) => put(store, 'a'),
  get: (store) => store.get('a', signal),
  head: (store) => store.head('a', signal),
  list: (store) => names(store),
  delete: (store) => store.delete('a', signal),
  sweep: (store) => store.sweep('a', { olderThanMs: 0, now: new Date() }, signal),
};

describe.each(Object.entries(verbs))('%s', (_verb, call) => {
  test('a folder that is missing, or a file', async () => {
    const missing = join(directory, 'missing');
    const found = { code: 'store_unreachable', message: expect.stringContaining(`"${missing}" (ENOENT)`) };
    await expect(call(open(missing))).rejects.toMatchObject(found);
    await expect(stat(missing)).rejects.toMatchObject({ code: 'ENOENT' });
    const file = join(directory, 'file');
    await writeFile(file, '');
    const inside = { code: 'store_unreachable', message: expect.stringContaining('(ENOTDIR)') };
    await expect(call(open(file))).rejects.toMatchObject(inside);
  });

  test('a folder that became a link to itself, or to nothing', async () => {
    for (const [name, target, system] of [
      ['loop', 'loop', 'ELOOP'],
      ['dangling', 'nowhere', 'ENOENT'],
    ] as const) {
      await symlink(target, join(directory, name));
      const found = { code: 'store_unreachable', message: expect.stringContaining(`(${system})`) };
      await expect(call(open(join(directory, name)))).rejects.toMatchObject(found);
    }
  });
});

test('files belong to the user of the node alone', async () => {
  await put(open(directory), 'a');
  expect((await stat(join(directory, 'a'))).mode & 0o777).toBe(0o600);
});

test('a folder without write permission, or on a read-only disk', async () => {
  const disk = process.getuid?.() === 0 ? mountSmallDisk(1) : undefined;
  if (typeof disk === 'string') return console.warn(`The test of a read-only disk does not run: ${disk}`);
  const folder = disk?.directory ?? directory;
  const store = open(folder);
  await put(store, 'a');
  if (disk === undefined) await chmod(folder, 0o500);
  else expect(spawnSync('mount', ['-o', 'remount,ro', folder]).status).toBe(0);
  try {
    for (const verb of ['check', 'delete']) {
      const found = { code: 'store_refused', message: expect.stringContaining(folder) };
      await expect(verbs[verb]?.(store)).rejects.toMatchObject(found);
    }
    await expect(put(store, 'b')).rejects.toMatchObject({ code: 'store_refused' });
    expect((await buffer(await store.get('a', signal))).toString()).toBe('content');
    expect(await readdir(folder)).toEqual(['a']);
  } finally {
    await chmod(folder, 0o700).catch(() => undefined);
    disk?.remove();
  }
});

test('a full disk: the error says so, and nothing stays', async () => {
  const disk = mountSmallDisk(1);
  if (typeof disk === 'string') return console.warn(`The test of a full disk does not run: ${disk}`);
  try {
    const store = open(disk.directory);
    await put(store, 'a');
    await expect(put(store, 'b', Buffer.alloc(2 ** 21))).rejects.toMatchObject({
      code: 'store_full',
      message: expect.stringMatching(/^Could not write "b" in the folder .* \(ENOSPC\)\. The disk/),
    });
    expect(await readdir(disk.directory)).toEqual(['a']);
    await put(store, 'c');
  } finally {
    disk.remove();
  }
});

test('a pipe, a socket or a link is no object, and does not block', async () => {
  const store = open(directory);
  expect(spawnSync('mkfifo', [join(directory, 'pipe')]).status).toBe(0);
  await writeFile(join(directory, '.secret'), 'secret');
  await symlink('.secret', join(directory, 'link'));
  const server = createServer().listen(join(directory, 'socket'));
  await once(server, 'listening');
  for (const name of ['pipe', 'socket', 'link']) {
    await expect(store.get(name, signal)).rejects.toMatchObject({ code: 'stored_backup_missing' });
    expect(await store.head(name, signal)).toBeUndefined();
    await expect(put(store, name)).rejects.toMatchObject({ code: 'store_failed' });
  }
  expect(await names(store)).toEqual([]);
  expect(await readFile(join(directory, 'link'), 'utf8')).toBe('secret');
  server.close();
});

test('a sweep deletes only temporary files of LOOM', async () => {
  const store = open(directory);
  const others = ['.hidden', '.other.part', 'loom-a-1.part', 'notes.txt'];
  const own = ['.loom-a-1.0123.part', '.check.0123.part', '..check.0123.part.4567.part'];
  for (const name of [...others, ...own]) await writeFile(join(directory, name), '');
  const now = new Date(Date.now() + 10_000);
  expect(await store.sweep('loom-a-', { olderThanMs: 0, now }, signal)).toBe(own.length);
  expect((await readdir(directory)).sort()).toEqual(others.sort());
});

describe('a file system without hard links', () => {
  const noLinks = () => Promise.reject(Object.assign(new Error('no links'), { code: 'EPERM', syscall: 'link' }));

  test('puts by a rename, and replaces nothing', async () => {
    const store = createFileStore({ directory }, noLinks);
    await put(store, 'a');
    await expect(put(store, 'a', Buffer.from('other'))).rejects.toMatchObject({ code: 'store_failed' });
    expect(await readdir(directory)).toEqual(['a']);
    expect(await readFile(join(directory, 'a'), 'utf8')).toBe('content');
  });
});

test('a disk that is full only when the file gets its name', async () => {
  const full = () => Promise.reject(Object.assign(new Error('full'), { code: 'ENOSPC', syscall: 'link' }));
  await expect(put(createFileStore({ directory }, full), 'a')).rejects.toMatchObject({ code: 'store_full' });
  expect(await readdir(directory)).toEqual([]);
});

test('a link whose answer was lost, so that its repetition finds it', async () => {
  const twice: typeof link = async (part, target) => {
    await link(part, target);
    await link(part, target);
  };
  const store = createFileStore({ directory }, twice);
  await put(store, 'a');
  await expect(put(store, 'a', Buffer.from('other'))).rejects.toBeInstanceOf(NameTakenError);
  expect(await readdir(directory)).toEqual(['a']);
  expect(await readFile(join(directory, 'a'), 'utf8')).toBe('content');
});

test('a temporary file that somebody removes', async () => {
  const store = createFileStore({ directory }, async (part) => {
    await rm(part);
    throw Object.assign(new Error('gone'), { code: 'ENOENT', syscall: 'link' });
  });
  await expect(put(store, 'a')).rejects.toMatchObject({
    code: 'store_failed',
    message: expect.stringContaining('removed its temporary file'),
  });
});

test('a call that does not return: it is reported, and further ones wait for it', async () => {
  const calls = createFileCalls('/somewhere', 20);
  let release: (value: string) => void = () => undefined;
  let late = '';
  const blocked = calls.run(
    'read "a"',
    () => new Promise<string>((resolve) => (release = resolve)),
    (result) => (late = result),
  );
  const found = { code: 'store_unreachable', message: expect.stringContaining('has not returned within 0.02 s') };
  await expect(blocked).rejects.toMatchObject(found);
  let isCalled = false;
  const refused = calls.run('read "b"', async () => (isCalled = true));
  await expect(refused).rejects.toMatchObject({ code: 'store_unreachable' });
  expect(isCalled).toBe(false);
  release('a handle');
  await new Promise(setImmediate);
  expect(late).toBe('a handle');
  expect(await calls.run('read "c"', async () => 'c')).toBe('c');
});

test('a call that returns late to a folder that is gone by then does not end the process', async () => {
  const calls = createFileCalls('/somewhere', 1);
  const unhandled: unknown[] = [];
  const note = (error: unknown): void => void unhandled.push(error);
  process.on('unhandledRejection', note);
  let release: (value: string) => void = () => undefined;
  const blocked = calls.run(
    'write "a"',
    () => new Promise<string>((resolve) => (release = resolve)),
    () => Promise.reject(new Error('the folder is gone')),
  );
  await expect(blocked).rejects.toMatchObject({ code: 'store_unreachable' });
  release('a handle');
  await new Promise(setImmediate);
  process.off('unhandledRejection', note);
  expect(unhandled).toEqual([]);
});

/** Opens files until the process may open no more, and puts an object then, and after closing them. */
const PUT_WITHOUT_FILES = `
  import { closeSync, openSync } from 'node:fs';
  import { Readable } from 'node:stream';
  import { createFileStore } from './file-store.ts';
  const store = createFileStore({ directory: process.argv[2] });
  const put = (name) => store.put(name, Readable.from([Buffer.from('content')]), new AbortController().signal);
  const opened = [];
  try {
    for (;;) opened.push(openSync('/dev/null', 'r'));
  } catch {}
  const refused = await put('a').catch((error) => error);
  for (const file of opened) closeSync(file);
  console.log(JSON.stringify({ code: refused.code, message: refused.message, ...(await put('b')) }));
`;

test('too many open files: the error says so, and the next put succeeds', async () => {
  const resolveDir = fileURLToPath(new URL('../../src/object-store/file/', import.meta.url));
  const script = join(directory, '.script.mjs');
  const stdin = { contents: PUT_WITHOUT_FILES, resolveDir, loader: 'ts' as const };
  await build({ stdin, outfile: script, bundle: true, platform: 'node', format: 'esm', logLevel: 'error' });
  const command = ['-c', 'ulimit -n 100 && exec "$@"', 'sh', process.execPath, script, directory];
  const { stdout, stderr } = spawnSync('sh', command, { encoding: 'utf8' });
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toMatchObject({
    code: 'store_failed',
    message: expect.stringContaining('(EMFILE). The node has too many open files.'),
    bytes: 7,
  });
  expect(await readdir(directory)).toEqual(['.script.mjs', 'b']);
});
