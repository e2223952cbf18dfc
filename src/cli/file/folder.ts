import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { codeOf } from '../../errors.ts';

/** A folder of LOOM contains backups and names of documents: no other user of the machine may list it. */
const OWNER_ONLY = 0o700;

/**
 * Creates a folder and its parents for this user alone, unless they exist. It does not use the `recursive` option of
 * `mkdir`. Where no folder can exist, such as below /proc, that option retries forever, and no signal ends the process.
 */
export async function makeFolder(path: string, makesParents = true): Promise<void> {
  try {
    await mkdir(path, OWNER_ONLY);
  } catch (error) {
    const found = await stat(path).catch(() => undefined);
    if (found?.isDirectory() === true) return;
    if (codeOf(error) !== 'ENOENT' || dirname(path) === path || !makesParents) throw error;
    await makeFolder(dirname(path));
    await makeFolder(path, false);
  }
}
