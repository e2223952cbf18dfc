import { createReadStream } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import type { RestoreMembers } from '../../backup/format/request.ts';

const CHUNK_BYTES = 256 * 1024;

export interface RestoreBody {
  body: Readable;
  isGzip: boolean;
  /** Size of the file. */
  totalBytes: number;
}

/**
 * Opens the body of a restore request around a backup file, and reads the file as the body is sent. A gzip file stays packed:
 * concatenated gzip members are one gzip stream (RFC 1952), so the text around the file is packed separately. `backup` is the
 * last member, so that the node knows the options before the first document.
 */
export async function openRestoreBody(
  path: string,
  members: RestoreMembers,
  onBytes: (bytes: number) => void,
): Promise<RestoreBody> {
  const file = await open(path, 'r');
  try {
    const { size } = await file.stat();
    const isGzip = await startsAsGzip(file);
    const explicit = {
      replace_state: true,
      truncate_audit: false,
      dry_run: false,
      accept_unverified: false,
      ...members,
    };
    const around = JSON.stringify({ confirm: 'restore', ...explicit });
    const pack = (text: string): Buffer => (isGzip ? gzipSync(text) : Buffer.from(text));
    const parts = [pack(`${around.slice(0, -1)},"backup":`), path, pack('}')] as const;
    return { body: Readable.from(chunksOf(...parts, onBytes), { objectMode: false }), isGzip, totalBytes: size };
  } finally {
    await file.close();
  }
}

async function* chunksOf(
  before: Buffer,
  path: string,
  after: Buffer,
  onBytes: (bytes: number) => void,
): AsyncGenerator<Buffer> {
  yield before;
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>) {
    onBytes(chunk.length);
    yield chunk;
  }
  yield after;
}

async function startsAsGzip(file: FileHandle): Promise<boolean> {
  const { buffer, bytesRead } = await file.read(Buffer.alloc(2), 0, 2, 0);
  return bytesRead === 2 && buffer.readUInt16BE() === 0x1f8b;
}
