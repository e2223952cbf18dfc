import { mkdtemp, statfs } from 'node:fs/promises';
import { freemem, tmpdir } from 'node:os';
import { join } from 'node:path';
import { depth } from '../depth.ts';

/** Linux keeps the files of this directory in memory. */
const MEMORY_DIRECTORY = '/dev/shm';

/** The data of a quick run needs about a tenth of this. */
const MIN_FREE_BYTES = 4 * 2 ** 30;

/**
 * Creates a directory for the data of a test server. A quick run creates and removes so many small files that ext4
 * would take a fifth of its processor time, so the directory is in memory if there is plenty. At full depth, the data
 * is larger, and on disk.
 */
export async function makeDataDirectory(prefix: string): Promise<string> {
  const parent = depth === 'quick' && (await hasMemory()) ? MEMORY_DIRECTORY : tmpdir();
  return mkdtemp(join(parent, prefix));
}

async function hasMemory(): Promise<boolean> {
  const disk = await statfs(MEMORY_DIRECTORY).catch(() => undefined);
  return disk !== undefined && disk.bavail * disk.bsize >= MIN_FREE_BYTES && freemem() >= MIN_FREE_BYTES;
}
