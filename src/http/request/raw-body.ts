import type { IncomingMessage } from 'node:http';
import { Readable, Transform } from 'node:stream';
import { createGunzip } from 'node:zlib';
import { damagedGzip } from '../../backup/format/gzip.ts';
import { LoomError } from '../../errors.ts';
import { createPace, describePace, fairWaitMs, SAMPLES_PER_WINDOW } from '../pace.ts';

export interface RawBodyBounds {
  maxBytes: number;
  /** Milliseconds over which the client must reach the minimum rate, see `createPace`. */
  paceWindowMs: number;
  /** Called with the length of each chunk. */
  onBytes(bytes: number): void;
}

/**
 * Streams the undecoded bytes of a request, bounded in size and by the minimum rate. Destroying this stream, unlike the
 * request, leaves the socket open for the answer.
 */
export function openRawBody(source: IncomingMessage, { maxBytes, paceWindowMs, onBytes }: RawBodyBounds): Readable {
  let receivedBytes = 0;
  const clock = createClientClock();
  const body = new Readable({
    read: () => {
      clock.start();
      source.resume();
    },
    // Keep the `error` listener: without it, a socket that breaks later would raise an unhandled error.
    destroy: (error, done) => {
      clearInterval(timer);
      source.off('data', onData).off('end', onEnd).off('close', onBreak).pause();
      done(error);
    },
  });
  const pace = createPace(paceWindowMs);
  const sampleMs = paceWindowMs / SAMPLES_PER_WINDOW;
  let sampledBytes = 0;
  const timer = setInterval(() => {
    const movedBytes = receivedBytes - sampledBytes;
    sampledBytes = receivedBytes;
    if (!pace.isTooSlow(fairWaitMs(clock.take(), sampleMs), movedBytes)) return;
    body.destroy(new LoomError('request_timeout', `The client sent ${describePace(paceWindowMs)}.`));
  }, sampleMs);
  const onData = (chunk: Buffer): void => {
    receivedBytes += chunk.length;
    onBytes(chunk.length);
    if (receivedBytes > maxBytes) body.destroy(bodyTooLarge(maxBytes));
    else if (!body.push(chunk)) {
      source.pause();
      clock.stop();
    }
  };
  const onEnd = (): void => {
    clearInterval(timer);
    body.push(null);
  };
  const onBreak = (): void => {
    if (source.readableEnded) return;
    body.destroy(new LoomError('malformed_request', 'The connection broke before the end of the body.'));
  };
  source.on('data', onData).on('end', onEnd).on('error', onBreak).on('close', onBreak).pause();
  if (source.destroyed) onBreak();
  return body;
}

/**
 * Measures the time in which the node waits for the client. While the source is paused, the reader is the slow side,
 * for example a database under load.
 */
function createClientClock() {
  let startedMs: number | undefined;
  let waitedMs = 0;
  const pause = (): void => {
    if (startedMs !== undefined) waitedMs += performance.now() - startedMs;
  };
  return {
    start: (): void => {
      startedMs ??= performance.now();
    },
    stop: (): void => {
      pause();
      startedMs = undefined;
    },
    /** Returns the time since the last call, in milliseconds. */
    take: (): number => {
      pause();
      if (startedMs !== undefined) startedMs = performance.now();
      const taken = waitedMs;
      waitedMs = 0;
      return taken;
    },
  };
}

export function bodyTooLarge(maxBytes: number): LoomError {
  return new LoomError('body_too_large', `The body has more than ${maxBytes} bytes.`);
}

/** Names the error code for gzip data that ends too early. */
export type TruncatedCode = 'backup_incomplete' | 'malformed_request';

/**
 * Decodes a gzip body. `maxBytes` limits the decoded bytes, which stops a gzip bomb. Does not use `pipeline`, which
 * would replace an error by "premature close".
 */
export function gunzip(raw: Readable, maxBytes: number, truncatedCode: TruncatedCode): Readable {
  const unpacker = createGunzip({ chunkSize: 64 * 1024 });
  let received = 0;
  let unpackedBytes = 0;
  const unpacked = new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      unpackedBytes += chunk.length;
      if (unpackedBytes > maxBytes) done(bodyTooLarge(maxBytes));
      else done(null, chunk);
    },
    // Node's gunzip treats a zero byte after the data as padding, and ignores all later bytes.
    flush: (done) => done(unpacker.bytesWritten === received ? null : damagedGzip(unpackedBytes)),
  });
  raw.on('data', (chunk: Buffer) => {
    received += chunk.length;
  });
  raw.on('error', (error) => unpacked.destroy(error));
  unpacker.on('error', (error) => unpacked.destroy(toGzipFault(error, unpackedBytes, truncatedCode)));
  unpacked.on('close', () => {
    raw.destroy();
    unpacker.destroy();
  });
  raw.pipe(unpacker).pipe(unpacked);
  return unpacked;
}

function toGzipFault(error: Error, offset: number, truncatedCode: TruncatedCode): LoomError {
  if (!('code' in error) || error.code !== 'Z_BUF_ERROR') return damagedGzip(offset);
  return new LoomError(truncatedCode, `The gzip data ends too early, after ${offset} decoded bytes.`, { offset });
}
