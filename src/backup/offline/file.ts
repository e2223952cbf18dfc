import { createReadStream } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { codeOf, LoomError } from '../../errors.ts';
import { damagedGzip } from '../format/gzip.ts';
import { AGE_MAGIC, decryptStream } from '../stored/encryption.ts';
import type { OpenBackup } from './read.ts';

const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);
const CHUNK_BYTES = 256 * 1024;

export interface BackupFileOptions {
  /** Secret keys of age, for an encrypted file. */
  identities?: readonly string[] | undefined;
  /** Gets each chunk of the file as it lies there, in order, in each reading. A chunk is valid only during the call. */
  onChunk?: ((chunk: Uint8Array, at: number) => void) | undefined;
}

/**
 * Opens a backup file: plain, gzip or encrypted by age, according to its first bytes. Each chunk is valid until the
 * next one is requested. Rejects as `fs.open` does, and with `identity_missing` if no identity decrypts the file.
 */
export async function openBackupFile(
  path: string,
  { identities = [], onChunk }: BackupFileOptions = {},
): Promise<OpenBackup> {
  const form = await readForm(path);
  if (form === 'plain') return () => readPlain(path, onChunk);
  if (form === 'gzip') return () => readGzip(async () => openSource(path, onChunk));
  const { isGzip, open } = await openEncrypted(path, { identities, onChunk });
  return isGzip ? () => readGzip(open) : () => readDecrypted(open);
}

/** The content of a backup file without its encryption. */
export interface DecryptedFile {
  /** Whether the content is gzip; otherwise it is JSON. */
  isGzip: boolean;
  open(): Promise<Readable>;
}

/** Opens a backup file as `openBackupFile` does, but leaves gzip packed. */
export async function openDecryptedFile(path: string, options: BackupFileOptions = {}): Promise<DecryptedFile> {
  const form = await readForm(path);
  if (form === 'age') return await openEncrypted(path, options);
  return { isGzip: form === 'gzip', open: async () => openSource(path, options.onChunk) };
}

async function openEncrypted(path: string, { identities = [], onChunk }: BackupFileOptions): Promise<DecryptedFile> {
  if (identities.length === 0) throw needsIdentity();
  const start = await firstChunk(await decryptStream(openSource(path), identities));
  return { isGzip: startsWith(start, GZIP_MAGIC), open: () => decryptStream(openSource(path, onChunk), identities) };
}

function needsIdentity(): LoomError {
  return new LoomError(
    'identity_missing',
    'The file is encrypted. Give the identity file of one of its keys (option --identity, or ' +
      'LOOM_BACKUP_IDENTITY_FILE), or decrypt the file first: age -d -i IDENTITY.',
  );
}

/** Tells the form of a file by its first bytes. Rejects as `fs.open` does. */
export async function readForm(path: string): Promise<'plain' | 'gzip' | 'age'> {
  const file = await openFile(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(AGE_MAGIC.length), 0, AGE_MAGIC.length, 0);
    const start = buffer.subarray(0, bytesRead);
    if (startsWith(start, AGE_MAGIC)) return 'age';
    return startsWith(start, GZIP_MAGIC) ? 'gzip' : 'plain';
  } finally {
    await file.close();
  }
}

function startsWith(bytes: Buffer, start: Buffer): boolean {
  return bytes.subarray(0, start.length).equals(start);
}

async function firstChunk(stream: Readable): Promise<Buffer> {
  for await (const chunk of stream) return chunk;
  return Buffer.alloc(0);
}

/** Opens the bytes of a file as they lie there. */
function openSource(path: string, onChunk?: BackupFileOptions['onChunk']): Readable {
  const source = createReadStream(path, { highWaterMark: CHUNK_BYTES });
  return onChunk === undefined ? source : Readable.from(passOn(source, onChunk), { objectMode: false });
}

async function* passOn(source: AsyncIterable<Buffer>, onChunk: (chunk: Uint8Array, at: number) => void) {
  let at = 0;
  for await (const chunk of source) {
    onChunk(chunk, at);
    at += chunk.length;
    yield chunk;
  }
}

/** Reads with two buffers in turn: one is filled while the other is in use. New buffers would be garbage of 256 KiB. */
async function* readPlain(path: string, onChunk: BackupFileOptions['onChunk']): AsyncGenerator<Uint8Array> {
  let at = 0;
  const file = await openFile(path, 'r');
  let [filled, free] = [Buffer.allocUnsafeSlow(CHUNK_BYTES), Buffer.allocUnsafeSlow(CHUNK_BYTES)];
  let reading = file.read(filled, 0, CHUNK_BYTES, null);
  try {
    for (;;) {
      const { bytesRead } = await reading;
      if (bytesRead === 0) return;
      reading = file.read(free, 0, CHUNK_BYTES, null);
      const chunk = filled.subarray(0, bytesRead);
      onChunk?.(chunk, at);
      at += bytesRead;
      yield chunk;
      [filled, free] = [free, filled];
    }
  } finally {
    await Promise.allSettled([reading]);
    await file.close();
  }
}

async function* readGzip(openPacked: () => Promise<Readable>): AsyncGenerator<Uint8Array> {
  const unpacker = createGunzip({ chunkSize: CHUNK_BYTES });
  const source = await openPacked();
  let packed = 0;
  let bytes = 0;
  source.on('error', (error) => unpacker.destroy(error));
  source.on('data', (chunk: Uint8Array) => {
    packed += chunk.length;
  });
  try {
    for await (const chunk of source.pipe(unpacker) as AsyncIterable<Uint8Array>) {
      bytes += chunk.length;
      yield chunk;
    }
    // Node's gunzip stops at a zero byte after the data and ignores the bytes after it.
    if (unpacker.bytesWritten < packed) throw damagedGzip(bytes);
  } catch (error) {
    throw toGzipError(error, bytes);
  } finally {
    source.destroy();
  }
}

async function* readDecrypted(decrypt: () => Promise<Readable>): AsyncGenerator<Uint8Array> {
  yield* (await decrypt()) as AsyncIterable<Uint8Array>;
}

/** Creates an error with the code that a restore uses for a damaged gzip body. */
function toGzipError(error: unknown, offset: number): unknown {
  const code = codeOf(error);
  if (code === 'Z_BUF_ERROR') {
    return new LoomError(
      'backup_incomplete',
      `The gzip data ends early, after ${offset} decoded bytes. Use a complete copy.`,
      { offset },
    );
  }
  if (typeof code !== 'string' || !code.startsWith('Z_')) return error;
  return damagedGzip(offset);
}
