import { codeOf, type ErrorCode, isLoomError, LoomError } from '../../errors.ts';

interface Fault {
  code: ErrorCode;
  text: string;
}

const full: Fault = {
  code: 'store_full',
  text: 'The disk or the quota is used up. Free space, or keep fewer backups (LOOM_BACKUP_KEEP).',
};
const refused: Fault = {
  code: 'store_refused',
  text: 'The user of the node may not do that. Grant it read and write access to the folder and its files.',
};
const away: Fault = {
  code: 'store_unreachable',
  text: 'The server of the network file system, or the disk, is away. Check the mount.',
};

const faults: Record<string, Fault> = {
  ENOSPC: full,
  EDQUOT: full,
  EROFS: { code: 'store_refused', text: 'The file system is read-only. Mount it for writing.' },
  EACCES: refused,
  EPERM: refused,
  ENOENT: {
    code: 'store_unreachable',
    text: 'The folder does not exist. Mount the disk, or create the folder; LOOM does not create it.',
  },
  EISDIR: { code: 'store_failed', text: 'A folder has the name of an object. Look at what it has, and move it away.' },
  ENOTDIR: { code: 'store_unreachable', text: 'A part of this path is a file, not a folder. Correct the path.' },
  ELOOP: { code: 'store_unreachable', text: 'The path has a loop of symbolic links. Correct the path.' },
  ESTALE: away,
  ENOTCONN: away,
  ENODEV: away,
  ENXIO: away,
  EHOSTDOWN: away,
  EHOSTUNREACH: away,
  ETIMEDOUT: away,
  EIO: { code: 'store_failed', text: 'The disk reports an input or output error. Check the disk and its log.' },
  EFBIG: { code: 'store_failed', text: 'The file is too large for this file system or the limits of the user.' },
  ENFILE: { code: 'store_failed', text: 'The machine has too many open files. Raise its limit of open files.' },
  EMFILE: { code: 'store_failed', text: 'The node has too many open files. Raise its limit of open files.' },
};

/**
 * Converts an error of the file system, found while the store was `doing` something, such as "write \"a\"". Returns a
 * LoomError unchanged.
 */
export function toFileStoreFault(error: unknown, doing: string, directory: string): LoomError {
  if (isLoomError(error)) return error;
  const system = codeOf(error) ?? 'unknown error';
  const { code, text } = faults[system] ?? { code: 'store_failed', text: 'The file system failed.' };
  return new LoomError(code, `Could not ${doing} in the folder ${JSON.stringify(directory)} (${system}). ${text}`, {
    cause: error,
  });
}
