import { openBackupFile } from '../../backup/offline/file.ts';
import type { OpenBackup } from '../../backup/offline/read.ts';

/** A file or folder that cannot be used: `<path>: <sentence>`. */
export class FileFault extends Error {}

const sentences: Record<string, string> = {
  ENOENT: 'There is no such file or folder.',
  ENOTDIR: 'A part of this path is a file, not a folder.',
  EISDIR: 'This is a folder, not a file.',
  EEXIST: 'This is a file, not a folder.',
  EACCES: 'This user may not use it.',
  EPERM: 'This user may not use it.',
  EROFS: 'Nothing can be written there.',
  ENOSPC: 'There is no space left.',
};

/** What the file system has refused, as a FileFault about `path`; anything else as it is. */
export function asFileFault(error: unknown, path = pathOf(error)): unknown {
  if (path === undefined || !(error instanceof Error) || !('syscall' in error && 'code' in error)) return error;
  const code = String(error.code);
  return new FileFault(`${path}: ${sentences[code] ?? `It cannot be used (${code}).`}`, { cause: error });
}

function pathOf(error: unknown): string | undefined {
  return error instanceof Error && 'path' in error && typeof error.path === 'string' ? error.path : undefined;
}

/** As `openBackupFile`, for a file that the command line names: rejects with a FileFault. */
export async function openNamedBackup(path: string): Promise<OpenBackup> {
  try {
    return await openBackupFile(path);
  } catch (error) {
    throw asFileFault(error, path);
  }
}
