import { type Readable, Transform, type TransformCallback } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { LoomError } from '../../errors.ts';
import { bodyTooLarge, type RawBody } from './raw-body.ts';

/** Names the error code for gzip data that ends too early. */
export type TruncatedCode = 'backup_incomplete' | 'malformed_request';

/** Decodes a gzip body. Does not use `pipeline`, which would replace the errors of each part by "premature close". */
export function gunzip(raw: RawBody, maxBytes: number, truncatedCode: TruncatedCode): Readable {
  const unpacker = createGunzip({ chunkSize: 64 * 1024 });
  // Node's gunzip takes a zero byte after the data for padding, and ignores all bytes that follow it.
  const isAllConsumed = (): boolean => unpacker.bytesWritten === raw.received;
  const unpacked = new UnpackedBody(maxBytes, () => (isAllConsumed() ? undefined : damagedAfter(unpacked.length)));
  raw.on('error', (error) => unpacked.destroy(error));
  unpacker.on('error', (error) => unpacked.destroy(toGzipFault(error, unpacked.length, truncatedCode)));
  unpacked.on('close', () => {
    raw.destroy();
    unpacker.destroy();
  });
  raw.pipe(unpacker).pipe(unpacked);
  return unpacked;
}

/** Limits the decoded bytes, which stops a gzip bomb. At the end, fails if `checkEnd` returns an error. */
class UnpackedBody extends Transform {
  length = 0;
  private readonly maxBytes: number;
  private readonly checkEnd: () => LoomError | undefined;

  constructor(maxBytes: number, checkEnd: () => LoomError | undefined) {
    super();
    this.maxBytes = maxBytes;
    this.checkEnd = checkEnd;
  }

  override _transform(chunk: Buffer, _encoding: string, done: TransformCallback): void {
    this.length += chunk.length;
    if (this.length > this.maxBytes) done(bodyTooLarge(this.maxBytes));
    else done(null, chunk);
  }

  override _flush(done: TransformCallback): void {
    done(this.checkEnd());
  }
}

function toGzipFault(error: Error, offset: number, truncatedCode: TruncatedCode): LoomError {
  if (!('code' in error) || error.code !== 'Z_BUF_ERROR') return damagedAfter(offset);
  return new LoomError(truncatedCode, `The gzip data ends too early, after ${offset} decoded bytes.`, { offset });
}

function damagedAfter(offset: number): LoomError {
  return new LoomError('malformed_request', `The gzip data is damaged after ${offset} decoded bytes.`, { offset });
}
