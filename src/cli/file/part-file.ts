import { type FileHandle, open, rename, stat, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { limits } from '../../limits.ts';

/** A file under way: what it is to become keeps its old content until `keep`. */
export interface PartFile {
  path: string;
  handle: FileHandle;
  /** Makes it durable and puts it in the place of the target, in one step. */
  keep(): Promise<void>;
  /** Removes it; the target stays as it was. May be called after `keep`, and then does nothing. */
  drop(): Promise<void>;
}

/**
 * Creates `<target>.part`, which nobody else may have. One that is old was left behind by a process that was killed, and is
 * replaced; a fresh one is somebody's work, and rejects. `keep` rejects when the file was taken away meanwhile.
 */
export async function claimPartFile(target: string): Promise<PartFile> {
  const path = `${target}.part`;
  const handle = await createExclusively(path);
  const { ino, dev } = await handle.stat();
  const touch = setInterval(() => {
    const now = new Date();
    // Whether it could be touched shows at the end, when the file must still be there.
    handle.utimes(now, now).catch(() => undefined);
  }, limits.partTouchMs);
  touch.unref();
  let isOpen = true;

  async function isStillOurs(): Promise<boolean> {
    const found = await stat(path).catch(() => undefined);
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
    keep: async () => {
      await handle.sync();
      if (!(await isStillOurs())) throw new Error(`${path} was taken away by somebody else: nothing was replaced.`);
      await rename(path, target);
      await syncDirectory(dirname(target));
      await close();
    },
    drop: async () => {
      if (!isOpen) return;
      if (await isStillOurs()) await unlink(path);
      await close();
    },
  };
}

async function createExclusively(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx+');
  } catch (error) {
    if (!isAlreadyThere(error)) throw error;
  }
  const ageMs = Date.now() - (await stat(path)).mtimeMs;
  if (ageMs < limits.partStaleMs) {
    throw new Error(
      `${path} was written to ${Math.max(0, Math.round(ageMs / 1000))} s ago: another backup to the same file is under way. ` +
        `If none is, remove it, or wait until it is ${limits.partStaleMs / 60_000} minutes old.`,
    );
  }
  await unlink(path);
  return await open(path, 'wx+');
}

function isAlreadyThere(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'EEXIST';
}

/** A rename is durable when its directory is. */
async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r');
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/** Writes a small file as a whole or not at all. */
export async function writeWhole(target: string, text: string): Promise<void> {
  const part = await claimPartFile(target);
  try {
    await part.handle.writeFile(text);
    await part.keep();
  } finally {
    await part.drop();
  }
}
