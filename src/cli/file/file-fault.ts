/** Files on this machine: backups to read, files and folders to write. The room knows neither node nor terminal. */
import { stat } from 'node:fs/promises';
import { type BackupFileOptions, openBackupFile, readForm } from '../../backup/offline/file.ts';
import type { OpenBackup } from '../../backup/offline/read.ts';
import { isLoomError, type LoomError } from '../../errors.ts';

/** Reports a file or folder that cannot be used. `label` tells which of several files it is. */
export class FileFault extends Error {
  readonly path: string;
  readonly detail: string;

  constructor(path: string, detail: string, label?: string, cause?: unknown) {
    super(`${label === undefined ? '' : `${label}: `}${path}: ${detail}`, { cause });
    this.path = path;
    this.detail = detail;
  }
}

const sentences: Record<string, string> = {
  ENOENT: 'There is no such file or folder.',
  ENOTDIR: 'A part of this path is a file, not a folder.',
  EISDIR: 'This is a folder, not a file.',
  EEXIST: 'This is a file, not a folder.',
  EACCES: 'This user has no permission for it.',
  EPERM: 'This user has no permission for it.',
  EROFS: 'The file system is read-only.',
  ENOSPC: 'There is no space left.',
};

/** Converts a file-system error to a FileFault about `path`. Returns any other error unchanged. */
export function asFileFault(error: unknown, path = pathOf(error), label?: string): unknown {
  if (path === undefined || !(error instanceof Error) || !('syscall' in error && 'code' in error)) return error;
  const code = String(error.code);
  return new FileFault(path, sentences[code] ?? `It cannot be used (${code}).`, label, error);
}

function pathOf(error: unknown): string | undefined {
  return error instanceof Error && 'path' in error && typeof error.path === 'string' ? error.path : undefined;
}

/** Passes the chunks of a file on, and counts them. */
export type Meter = (chunks: AsyncIterable<Uint8Array>) => AsyncIterable<Uint8Array>;

/** Opens a backup file that the command line names, and meters each reading of it. Rejects with a FileFault. */
export async function openNamedBackup(
  path: string,
  meter?: Meter,
  { label, ...options }: BackupFileOptions & { label?: string } = {},
): Promise<OpenBackup> {
  try {
    const open = await openBackupFile(path, options);
    return meter === undefined ? open : () => meter(open());
  } catch (error) {
    throw asFileFault(error, path, label);
  }
}

/** Returns the number of bytes that a reading of a backup file passes; undefined if it is packed or unknown. */
export async function readableBytes(path: string): Promise<number | undefined> {
  try {
    return (await readForm(path)) === 'plain' ? (await stat(path)).size : undefined;
  } catch {
    return undefined;
  }
}

/** Recognizes common files that are no backup by their first bytes, as hex. */
const formats: readonly (readonly [start: string, what: string])[] = [
  ['1f8b', 'The file is gzip inside of gzip: unpack it once'],
  ['504b0304', 'The file looks like a zip archive: unpack it first'],
  ['28b52ffd', 'The file looks like zstd: unpack it first'],
  ['425a68', 'The file looks like bzip2: unpack it first'],
  ['fd377a58', 'The file looks like xz: unpack it first'],
  ['efbbbf', 'The file begins with a byte order mark: save it as UTF-8 without one'],
  ['fffe', 'The file looks like UTF-16: save it as UTF-8'],
  ['feff', 'The file looks like UTF-16: save it as UTF-8'],
  ['3c', 'The file looks like an HTML or XML page, such as an error page of a proxy: download the backup again'],
];

/** Awaits the check of a backup file. If the file is no JSON or is cut off, the error also says what to do about it. */
export async function withFileHint<T>(path: string, check: Promise<T>): Promise<T> {
  try {
    return await check;
  } catch (error) {
    if (isLoomError(error)) error.message += await hintFor(path, error);
    throw error;
  }
}

async function hintFor(path: string, { code, place: { offset } }: LoomError): Promise<string> {
  if (code === 'backup_incomplete') return ' Download the backup again, or copy the file again.';
  if (!['invalid_json', 'invalid_utf8'].includes(code) || offset === undefined || offset > MAX_START_BYTES) return '';
  const start = await readStart(path).catch(() => '');
  const known = formats.find(([bytes]) => start.startsWith(bytes));
  return known === undefined ? '' : ` ${known[1]}.`;
}

const MAX_START_BYTES = 4;

/** Returns the first bytes of the unpacked file as hex. */
async function readStart(path: string): Promise<string> {
  const open = await openBackupFile(path);
  for await (const chunk of open()) return Buffer.from(chunk.subarray(0, MAX_START_BYTES)).toString('hex');
  return '';
}
