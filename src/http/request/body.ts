import type { IncomingMessage } from 'node:http';
import { type Readable, Readable as ReadableStream, Transform, type TransformCallback } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { FastifyRequest } from 'fastify';
import { LoomError } from '../../errors.ts';

export interface BodyOptions {
  /** Media types that are taken, the one to recommend first. */
  mediaTypes: readonly [string, ...string[]];
  /** Most bytes of the body, as sent and decoded; no bound when left out. */
  maxBytes?: number;
  /** Silence after which the body is given up. */
  idleMs: number;
  /** What gzip data that ends too early means; `malformed_request` when left out. */
  truncatedCode?: 'backup_incomplete';
}

/**
 * The body of a request, decoded, as it arrives. Throws `unsupported_media_type` or `body_too_large` before anything is
 * read. The stream fails with a LoomError: `request_timeout`, `body_too_large`, or `malformed_request` when the connection
 * breaks or the gzip data is damaged. Destroying it stops reading, but leaves the connection to be answered on.
 */
export function openBody(request: FastifyRequest, options: BodyOptions): Readable {
  assertMediaType(request, options.mediaTypes);
  const encoding = contentEncoding(request);
  const { maxBytes = Number.POSITIVE_INFINITY } = options;
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes);
  const raw = new RequestBody(request.raw, { idleMs: options.idleMs, maxBytes });
  return encoding === 'gzip' ? gunzip(raw, maxBytes, options.truncatedCode ?? 'malformed_request') : raw;
}

/** Whether the request says that a body comes with it. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/** Calls `onChunk` for each chunk until the stream ends. What it throws destroys the stream. */
export function readChunks(stream: Readable, onChunk: (chunk: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.on('data', (chunk: Buffer) => {
      try {
        onChunk(chunk);
      } catch (error) {
        stream.destroy();
        reject(error);
      }
    });
    stream.on('error', reject);
    stream.on('end', resolve);
  });
}

function assertMediaType(request: FastifyRequest, mediaTypes: BodyOptions['mediaTypes']): void {
  const header = request.headers['content-type'];
  // Without a body there is nothing that could be of a type; that it is missing is found by who reads it.
  if (header === undefined && !hasBody(request.raw)) return;
  const [type = '', ...parameters] = (header ?? '').split(';').map((part) => part.trim().toLowerCase());
  if (!mediaTypes.includes(type)) {
    throw new LoomError(
      'unsupported_media_type',
      `Say what the body is: content-type must be ${mediaTypes.join(' or ')} (with curl: -H 'content-type: ${mediaTypes[0]}').`,
    );
  }
  const charset = parameters.find((parameter) => parameter.startsWith('charset='))?.slice('charset='.length);
  if (charset !== undefined && !['utf-8', 'utf8', '"utf-8"'].includes(charset)) {
    throw new LoomError('unsupported_media_type', 'JSON is UTF-8: leave the charset out of content-type.');
  }
}

function contentEncoding(request: FastifyRequest): 'identity' | 'gzip' {
  const encoding = (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase();
  if (encoding === '' || encoding === 'identity') return 'identity';
  if (encoding === 'gzip' || encoding === 'x-gzip') return 'gzip';
  throw new LoomError('unsupported_media_type', 'content-encoding must be gzip, or left out.');
}

/**
 * The bytes of a request. Unlike the request itself it can be destroyed without destroying the socket, which must stay
 * open for the answer, and it watches the time and the size.
 */
class RequestBody extends ReadableStream {
  private readonly source: IncomingMessage;
  private readonly timer: NodeJS.Timeout;
  received = 0;

  constructor(source: IncomingMessage, { idleMs, maxBytes }: { idleMs: number; maxBytes: number }) {
    super();
    this.source = source;
    this.timer = setTimeout(() => {
      // A reader that is slow, such as a database under load, is not a client that is silent.
      if (source.isPaused()) this.timer.refresh();
      else this.destroy(timedOut(idleMs));
    }, idleMs);
    this.onData = (chunk) => {
      this.timer.refresh();
      this.received += chunk.length;
      if (this.received > maxBytes) this.destroy(tooLarge(maxBytes));
      else if (!this.push(chunk)) source.pause();
    };
    source.on('data', this.onData);
    source.on('end', this.onEnd);
    source.on('error', this.onBreak);
    source.on('close', this.onBreak);
    source.pause();
    if (source.destroyed) this.onBreak();
  }

  override _read(): void {
    this.timer.refresh();
    this.source.resume();
  }

  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.timer);
    this.source.off('data', this.onData);
    this.source.off('end', this.onEnd);
    this.source.off('close', this.onBreak);
    this.source.pause();
    done(error);
  }

  private readonly onData: (chunk: Buffer) => void;

  private readonly onEnd = (): void => {
    clearTimeout(this.timer);
    this.push(null);
  };

  /** Stays on the source for good: a socket that breaks later must not become an unhandled error. */
  private readonly onBreak = (): void => {
    if (!this.source.readableEnded) this.destroy(brokenOff());
  };
}

/** Counts what comes out of gunzip, which is where a bomb shows. `faultAtEnd` has the last word. */
class DecodedBody extends Transform {
  length = 0;
  private readonly maxBytes: number;
  private readonly faultAtEnd: () => LoomError | undefined;

  constructor(maxBytes: number, faultAtEnd: () => LoomError | undefined) {
    super();
    this.maxBytes = maxBytes;
    this.faultAtEnd = faultAtEnd;
  }

  override _transform(chunk: Buffer, _encoding: string, done: TransformCallback): void {
    this.length += chunk.length;
    if (this.length > this.maxBytes) done(tooLarge(this.maxBytes));
    else done(null, chunk);
  }

  override _flush(done: TransformCallback): void {
    done(this.faultAtEnd());
  }
}

/** Not `pipeline`: that would turn the errors of each part into "premature close" of the others. */
function gunzip(
  raw: RequestBody,
  maxBytes: number,
  truncatedCode: 'backup_incomplete' | 'malformed_request',
): Readable {
  const unpacker = createGunzip({ chunkSize: 64 * 1024 });
  // Node's gunzip takes a zero byte for the end, and whatever stands behind it for padding.
  const isWhole = (): boolean => unpacker.bytesWritten === raw.received;
  const decoded = new DecodedBody(maxBytes, () => (isWhole() ? undefined : damagedAfter(decoded.length)));
  raw.on('error', (error) => decoded.destroy(error));
  unpacker.on('error', (error) => decoded.destroy(damaged(error, decoded.length, truncatedCode)));
  decoded.on('close', () => {
    raw.destroy();
    unpacker.destroy();
  });
  raw.pipe(unpacker).pipe(decoded);
  return decoded;
}

function damaged(error: Error, offset: number, truncatedCode: 'backup_incomplete' | 'malformed_request'): LoomError {
  const isTruncated = 'code' in error && error.code === 'Z_BUF_ERROR';
  if (isTruncated)
    return new LoomError(truncatedCode, `The gzip data ends too early, after ${offset} decoded bytes.`, { offset });
  return damagedAfter(offset);
}

function damagedAfter(offset: number): LoomError {
  return new LoomError('malformed_request', `The gzip data is damaged, after ${offset} decoded bytes.`, { offset });
}

function tooLarge(maxBytes: number): LoomError {
  return new LoomError('body_too_large', `The body has more than ${maxBytes} bytes.`);
}

function timedOut(idleMs: number): LoomError {
  return new LoomError('request_timeout', `No byte of the body came for ${idleMs} ms.`);
}

function brokenOff(): LoomError {
  return new LoomError('malformed_request', 'The connection broke before the body had ended.');
}
