import { type FileHandle, lstat, open, rename, unlink, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { FileFault } from './file-fault.ts';

/**
 * Creates `<target>.part` for this process alone. The target keeps its old content until `keep`. Replaces an old part
 * file, which a killed process left behind. Rejects if the part file is recent, because another process is writing it.
 * `keep` rejects if another process has replaced or removed the part file. No step follows a symbolic link.
 */
export async function claimPartFile(target: string) {
  const path = `${target}.part`;
  const handle = await createExclusively(path);
  const { ino, dev } = await handle.stat();
  const touch = setInterval(() => {
    const now = new Date();
    // A failure shows in `keep`, which checks that the file still exists.
    handle.utimes(now, now).catch(() => undefined);
  }, limits.partTouchMs);
  touch.unref();
  let isOpen = true;

  async function isStillOurs(): Promise<boolean> {
    const found = await lstat(path).catch(() => undefined);
    return found?.ino === ino && found.dev === dev;
  }

  async function close(): Promise<void> {
    clearInterval(touch);
    isOpen = false;
    await handle.close();
  }

  return {
    path,
    handle,
    /** Makes the file durable, then atomically replaces the target with it. */
    keep: async (): Promise<void> => {
      await handle.sync();
      if (!(await isStillOurs()))
        throw new FileFault(path, 'Another process has replaced or removed it. The target was not replaced.');
      await rename(path, target);
      // The rename is durable once the directory is on disk.
      const directory = await open(dirname(target), 'r');
      await directory.sync().finally(() => directory.close());
      await close();
    },
    /** Removes the file and leaves the target as it is. Does nothing after `keep`. */
    drop: async (): Promise<void> => {
      if (!isOpen) return;
      if (await isStillOurs()) await unlink(path);
      await close();
    },
  };
}

/** A backup contains every document, and a report its names: no other user of the machine may read them. */
export const OWNER_ONLY = 0o600;

async function createExclusively(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx+', OWNER_ONLY);
  } catch (error) {
    if (codeOf(error) !== 'EEXIST') throw error;
  }
  const ageMs = Date.now() - (await lstat(path)).mtimeMs;
  if (ageMs < limits.partStaleMs) {
    throw new FileFault(
      path,
      `It was written ${Math.max(0, Math.round(ageMs / 1000))} s ago: another backup to the same file is in progress. ` +
        `If none is, remove it, or wait until it is ${limits.partStaleMs / 60_000} minutes old.`,
    );
  }
  await unlink(path);
  return await open(path, 'wx+', OWNER_ONLY);
}

/** Writes a file completely or not at all. */
export async function writeWhole(target: string, content: string | AsyncIterable<Uint8Array>): Promise<void> {
  const part = await claimPartFile(target);
  try {
    await writeFile(part.handle, content);
    await part.keep();
  } finally {
    await part.drop();
  }
}
