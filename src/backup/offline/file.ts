import { createReadStream } from 'node:fs';
import { open as openFile } from 'node:fs/promises';
import { createGunzip } from 'node:zlib';
import { codeOf, LoomError } from '../../errors.ts';
import { damagedGzip } from '../format/gzip.ts';
import type { OpenBackup } from './read.ts';

const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);
const CHUNK_BYTES = 256 * 1024;

/**
 * Opens a backup file, plain or gzip according to its first bytes. Each chunk is valid until the next one is requested.
 * Rejects as `fs.open` does.
 */
export async function openBackupFile(path: string): Promise<OpenBackup> {
  const isGzip = await isGzipFile(path);
  return isGzip ? () => readGzip(path) : () => readPlain(path);
}

/** Returns whether the first bytes of a file are those of gzip. Rejects as `fs.open` does. */
export async function isGzipFile(path: string): Promise<boolean> {
  const file = await openFile(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(GZIP_MAGIC.length), 0, GZIP_MAGIC.length, 0);
    return bytesRead === GZIP_MAGIC.length && buffer.equals(GZIP_MAGIC);
  } finally {
    await file.close();
  }
}

/** Reads with two buffers in turn: one is filled while the other is in use. New buffers would be garbage of 256 KiB. */
async function* readPlain(path: string): AsyncGenerator<Uint8Array> {
  const file = await openFile(path, 'r');
  let [filled, free] = [Buffer.allocUnsafeSlow(CHUNK_BYTES), Buffer.allocUnsafeSlow(CHUNK_BYTES)];
  let reading = file.read(filled, 0, CHUNK_BYTES, null);
  try {
    for (;;) {
      const { bytesRead } = await reading;
      if (bytesRead === 0) return;
      reading = file.read(free, 0, CHUNK_BYTES, null);
      yield filled.subarray(0, bytesRead);
      [filled, free] = [free, filled];
    }
  } finally {
    await Promise.allSettled([reading]);
    await file.close();
  }
}

async function* readGzip(path: string): AsyncGenerator<Uint8Array> {
  const unpacker = createGunzip({ chunkSize: CHUNK_BYTES });
  const source = createReadStream(path, { highWaterMark: CHUNK_BYTES });
  source.on('error', (error) => unpacker.destroy(error));
  let bytes = 0;
  try {
    for await (const chunk of source.pipe(unpacker) as AsyncIterable<Uint8Array>) {
      bytes += chunk.length;
      yield chunk;
    }
    // Node's gunzip stops at a zero byte after the data and ignores the bytes after it.
    if (unpacker.bytesWritten < source.bytesRead) throw damagedGzip(bytes);
  } catch (error) {
    throw toGzipError(error, bytes);
  } finally {
    source.destroy();
  }
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
