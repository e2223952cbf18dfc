import { mkdir, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/**
 * Creates a folder and its parents, unless they exist. `mkdir` with `recursive` does not serve: where the file system refuses
 * every folder, as below /proc, it retries forever, and no signal ends the process.
 */
export async function makeFolder(path: string): Promise<void> {
  const fault = await tryToMake(path);
  if (fault === undefined) return;
  const hasNoParent = fault instanceof Error && 'code' in fault && fault.code === 'ENOENT' && dirname(path) !== path;
  if (!hasNoParent) throw fault;
  await makeFolder(dirname(path));
  const again = await tryToMake(path);
  if (again !== undefined) throw again;
}

/** Resolves with the error that prevented the folder; undefined when the folder exists. */
async function tryToMake(path: string): Promise<unknown> {
  try {
    await mkdir(path);
    return undefined;
  } catch (error) {
    const found = await stat(path).catch(() => undefined);
    return found?.isDirectory() === true ? undefined : error;
  }
}
