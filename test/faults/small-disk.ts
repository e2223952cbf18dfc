import { spawnSync } from 'node:child_process';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A disk in memory that a test can fill. */
export interface SmallDisk {
  directory: string;
  /** Writes a file that takes all the room that is left. */
  fill(): Promise<void>;
  /** Removes that file. */
  free(): Promise<void>;
  remove(): void;
}

/** Mounts a disk of this size. Returns the reason if this user may not mount one. */
export function mountSmallDisk(mebibytes: number): SmallDisk | string {
  const directory = mkdtempSync(join(tmpdir(), 'loom-test-disk-'));
  const { status, stderr, error } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', directory]);
  if (status !== 0) {
    rmSync(directory, { recursive: true });
    return `no tmpfs can be mounted: ${error?.message ?? String(stderr).trim()}`;
  }
  // The user that runs PostgreSQL enters it.
  chmodSync(directory, 0o755);
  const filler = join(directory, 'filler');
  const remove = (): void => {
    process.off('exit', remove);
    // Lazily: a process of the server may still be ending.
    spawnSync('umount', ['--lazy', directory]);
    rmSync(directory, { recursive: true, force: true });
  };
  process.once('exit', remove);
  return {
    directory,
    fill: () => fillDisk(filler),
    free: () => rm(filler, { force: true }),
    remove,
  };
}

async function fillDisk(path: string): Promise<void> {
  const file = await open(path, 'w');
  try {
    // Smaller and smaller pieces, until not even one page is left.
    for (let bytes = 2 ** 20; bytes >= 4_096; bytes /= 4) {
      const piece = Buffer.alloc(bytes, 1);
      while (await hasRoom(() => file.write(piece)));
    }
  } finally {
    await file.close();
  }
}

async function hasRoom(write: () => Promise<{ bytesWritten: number; buffer: Buffer }>): Promise<boolean> {
  try {
    const { bytesWritten, buffer } = await write();
    return bytesWritten === buffer.length;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC') return false;
    throw error;
  }
}
