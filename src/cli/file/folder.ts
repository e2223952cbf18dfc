import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Makes a folder and those around it, unless they are there. Not `mkdir` with `recursive`: where the file system makes no folder
 * at all, as below /proc, that tries for ever, and not even a signal ends the process.
 */
export async function makeFolder(path: string): Promise<void> {
  const fault = await tryToMake(path);
  if (fault === undefined) return;
  const isInNone = fault instanceof Error && 'code' in fault && fault.code === 'ENOENT' && dirname(path) !== path;
  if (!isInNone) throw fault;
  await makeFolder(dirname(path));
  const again = await tryToMake(path);
  if (again !== undefined) throw again;
}

/** Resolves with why it is not there. */
async function tryToMake(path: string): Promise<unknown> {
  try {
    await mkdir(path);
    return undefined;
  } catch (error) {
    const found = await stat(path).catch(() => undefined);
    return found?.isDirectory() === true ? undefined : error;
  }
}
