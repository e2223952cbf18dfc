import { constants } from 'node:fs';
import { type FileHandle, link, lstat, open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { pathToFileURL } from 'node:url';
import type { ObjectStore, StoredObject, WrittenObject } from '../../domain/object-store.ts';
import { codeOf, LoomError } from '../../errors.ts';
import { createRoundTripCheck } from '../check.ts';
import { withContent, writeContent } from '../content.ts';
import { assertObjectName, createPartName, isSwept, isTemporary, nameIsTaken } from '../names.ts';
import { createFileCalls, type FileCalls } from './file-calls.ts';
import { readFileStream } from './file-stream.ts';

// src/object-store/file/ keeps objects as files of one folder. It may import what its parent may. It touches nothing
// outside of that folder.

/** A backup contains every document: no other user of the machine may read it. */
const OWNER_ONLY = 0o600;

/** Names what the functions of this file need of a store. */
interface Folder {
  directory: string;
  calls: FileCalls;
  makeLink: typeof link;
}

/**
 * Keeps each object as one file of the folder. A file is written under a temporary name, and linked when complete.
 * `makeLink` and `callTimeoutMs` are for tests.
 */
export function createFileStore(
  { directory, callTimeoutMs }: { directory: string; callTimeoutMs?: number },
  makeLink = link,
): ObjectStore {
  const folder: Folder = { directory, calls: createFileCalls(directory, callTimeoutMs), makeLink };
  const store: ObjectStore = {
    address: pathToFileURL(directory).href,
    check: createRoundTripCheck({
      put: (name, content, signal) => putFile(folder, name, content, signal),
      get: (name, signal) => getFile(folder, name, signal),
      delete: (name) => deleteFile(folder, name),
    }),
    put: (name, content, signal) =>
      withContent(content, async () => {
        assertObjectName(name);
        return await putFile(folder, name, content, signal);
      }),
    get: async (name, signal) => {
      assertObjectName(name);
      return await getFile(folder, name, signal);
    },
    head: async (name, signal) => {
      assertObjectName(name);
      signal.throwIfAborted();
      return await headFile(folder, name);
    },
    list: (prefix, signal) => listFiles(folder, (name) => !isTemporary(name) && name.startsWith(prefix), signal),
    delete: async (name, signal) => {
      assertObjectName(name);
      signal.throwIfAborted();
      await deleteFile(folder, name);
    },
    sweep: async (prefix, { olderThanMs, now }, signal) => {
      let swept = 0;
      for await (const { name, modifiedAt } of listFiles(folder, (name) => isSwept(name, prefix), signal)) {
        if (now.getTime() - modifiedAt.getTime() < olderThanMs) continue;
        await deleteFile(folder, name);
        swept += 1;
      }
      return swept;
    },
    close: async () => undefined,
  };
  return store;
}

async function putFile(folder: Folder, name: string, content: Readable, signal: AbortSignal): Promise<WrittenObject> {
  const { directory, calls } = folder;
  signal.throwIfAborted();
  const doing = `write ${JSON.stringify(name)}`;
  const part = join(directory, createPartName(name));
  const handle = await calls.run(
    doing,
    () => open(part, 'wx', OWNER_ONLY),
    (late) => late.close().then(() => unlink(part)),
  );
  let isOpen = true;
  try {
    const written = await writeContent(content, signal, (chunk) => calls.run(doing, () => writeWhole(handle, chunk)));
    // An error of an earlier write may show only here or at the close, for example on NFS.
    await calls.run(doing, () => handle.sync());
    isOpen = false;
    await calls.run(doing, () => handle.close());
    signal.throwIfAborted();
    const takeBack = (): Promise<void> => unlink(join(directory, name)).catch(() => undefined);
    await calls.run(doing, () => putInPlace(folder, part, name), takeBack);
    await syncFolder(folder, doing).catch(async (error: unknown) => {
      await takeBack();
      throw error;
    });
    return written;
  } catch (error) {
    // Best effort: the sweep deletes what is left here.
    if (isOpen) await calls.run(doing, () => handle.close()).catch(() => undefined);
    await calls.run(doing, () => unlink(part)).catch(() => undefined);
    throw error;
  }
}

async function writeWhole(handle: FileHandle, chunk: Uint8Array): Promise<void> {
  for (let from = 0; from < chunk.length; ) from += (await handle.write(chunk, from)).bytesWritten;
}

/** Lists what `link` answers on file systems without hard links, such as FAT and some network file systems. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

/** Gives the complete file its name. `link` never replaces a file, which `rename` would do. */
async function putInPlace({ directory, makeLink }: Folder, part: string, name: string): Promise<void> {
  const target = join(directory, name);
  try {
    await makeLink(part, target);
  } catch (error) {
    const code = codeOf(error) ?? '';
    if (code === 'EEXIST') {
      // NFS repeats a call whose answer was lost, and then finds the link that it has made itself (link(2)).
      if (!(await isSameFile(part, target))) throw nameIsTaken(name);
      await unlink(part).catch(() => undefined);
      return;
    }
    if (code === 'ENOENT' && (await lstat(directory)).isDirectory()) throw partIsGone(name);
    if (!NO_LINKS.includes(code)) throw error;
    // Without links, a writer of the same name at the same time would win. No two runs have the same name.
    if ((await lstat(target).catch(() => undefined)) !== undefined) throw nameIsTaken(name);
    await rename(part, target);
    return;
  }
  // The object is complete. The sweep deletes a temporary file that stays.
  await unlink(part).catch(() => undefined);
}

/** Returns whether two paths name one file. */
async function isSameFile(one: string, other: string): Promise<boolean> {
  const look = (path: string) => lstat(path, { bigint: true }).catch(() => undefined);
  const [first, second] = [await look(one), await look(other)];
  return first !== undefined && first.ino === second?.ino && first.dev === second.dev;
}

function partIsGone(name: string): LoomError {
  return new LoomError(
    'store_failed',
    `Could not write ${JSON.stringify(name)}: somebody has removed its temporary file meanwhile. Look for a program ` +
      'that cleans the folder.',
  );
}

/** Lists what a sync of a folder answers where it is not supported. There, names become durable without it. */
const NO_FOLDER_SYNC = ['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'EISDIR', 'EBADF'];

/** Makes the names of the folder durable. */
async function syncFolder({ directory, calls }: Folder, doing: string): Promise<void> {
  await calls.run(doing, async () => {
    const handle = await open(directory, 'r');
    try {
      await handle.sync();
    } catch (error) {
      if (!NO_FOLDER_SYNC.includes(codeOf(error) ?? '')) throw error;
    } finally {
      await handle.close();
    }
  });
}

async function getFile({ directory, calls }: Folder, name: string, signal: AbortSignal): Promise<Readable> {
  signal.throwIfAborted();
  const doing = `read ${JSON.stringify(name)}`;
  const handle = await calls.run(
    doing,
    () => openRegular(directory, name),
    (late) => late?.close(),
  );
  if (handle === undefined) {
    throw new LoomError(
      'stored_backup_missing',
      `The folder ${JSON.stringify(directory)} has no object ${JSON.stringify(name)}. Look for another copy of it.`,
    );
  }
  return readFileStream(handle, { signal, run: (call) => calls.run(doing, call) });
}

/** Opens a file; undefined if there is none. Does not follow a link, and does not wait for the writer of a pipe. */
async function openRegular(directory: string, name: string): Promise<FileHandle | undefined> {
  let handle: FileHandle;
  try {
    handle = await open(join(directory, name), constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    // A socket.
    if (codeOf(error) === 'ENXIO' && !(await lstat(join(directory, name))).isFile()) return undefined;
    if (codeOf(error) !== 'ELOOP' && codeOf(error) !== 'ENOENT') throw error;
    // A missing file, or a link, is a fact about the store only if the folder is there.
    await stat(directory);
    return undefined;
  }
  if (await isRegular(handle)) return handle;
  await handle.close();
  return undefined;
}

/** Returns whether an open file is a regular one. Closes it if nobody can tell. */
async function isRegular(handle: FileHandle): Promise<boolean> {
  try {
    return (await handle.stat()).isFile();
  } catch (error) {
    await handle.close().catch(() => undefined);
    throw error;
  }
}

function headFile({ directory, calls }: Folder, name: string): Promise<StoredObject | undefined> {
  return calls.run(`look at ${JSON.stringify(name)}`, async () => {
    const found = await describe(directory, name);
    // A missing file is a fact about the store only if the folder is there.
    if (found === undefined) await stat(directory);
    return found;
  });
}

async function describe(directory: string, name: string): Promise<StoredObject | undefined> {
  try {
    const found = await lstat(join(directory, name));
    return found.isFile() ? { name, bytes: found.size, modifiedAt: found.mtime } : undefined;
  } catch (error) {
    if (codeOf(error) === 'ENOENT') return undefined;
    throw error;
  }
}

async function* listFiles(
  { directory, calls }: Folder,
  isWanted: (name: string) => boolean,
  signal: AbortSignal,
): AsyncGenerator<StoredObject> {
  signal.throwIfAborted();
  const names = await calls.run('list the objects', () => readdir(directory));
  for (const name of names.filter(isWanted)) {
    signal.throwIfAborted();
    const found = await calls.run('list the objects', () => describe(directory, name));
    if (found !== undefined) yield found;
  }
}

/** Deletes a file durably: an object that returned after a power failure would have no row. */
async function deleteFile(folder: Folder, name: string): Promise<void> {
  const { directory, calls } = folder;
  const doing = `delete ${JSON.stringify(name)}`;
  await calls.run(doing, async () => {
    try {
      await unlink(join(directory, name));
    } catch (error) {
      if (codeOf(error) !== 'ENOENT') throw error;
      await stat(directory);
    }
  });
  await syncFolder(folder, doing);
}
