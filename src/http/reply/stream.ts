import { once } from 'node:events';
import { pipeline, type Readable, type Transform } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { limits } from '../../limits.ts';
import { onceDone } from './done.ts';

/** Returns a signal that aborts when the client disconnects before it has the whole answer. */
export function abortSignalOf(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  onceDone(reply, () => {
    if (!reply.raw.writableFinished) controller.abort();
  });
  return controller.signal;
}

/**
 * Destroys a stream when the answer is done: sent, replaced by a problem, or broken off. A stream has something open, a
 * file or a connection. Give it to this function before anything else can throw.
 */
export function closeAfterAnswer(reply: FastifyReply, source: Readable): void {
  source.on('error', () => undefined);
  onceDone(reply, () => source.destroy());
}

/**
 * Sends a stream once its first bytes have arrived. An earlier failure is answered with a problem. A later failure
 * destroys the socket, so that the client sees an aborted transfer. If the client disconnects, the stream is destroyed.
 */
export async function sendStream(
  reply: FastifyReply,
  source: Readable,
  { gzip = false, beforeEnd }: { gzip?: boolean; beforeEnd?: Transform } = {},
): Promise<FastifyReply> {
  const encoded = gzip ? through(source, createGzip(gzipOptions)) : source;
  const payload = beforeEnd === undefined ? encoded : through(encoded, beforeEnd);
  if (gzip) reply.header('content-encoding', 'gzip');
  closeAfterAnswer(reply, source);
  await waitForFirstBytes(payload);
  return reply.send(payload);
}

/** Returns whether `Accept-Encoding` names gzip with a weight above zero (RFC 9110 §12.5.3). */
export function acceptsGzip(request: FastifyRequest): boolean {
  const header = request.headers['accept-encoding'];
  return typeof header === 'string' && listOf(header).some((element) => isAccepted(element, ['gzip', 'x-gzip']));
}

/** Returns whether `Accept` names a media type with a weight above zero. Ranges with `*` do not count. */
export function acceptsType(request: FastifyRequest, mediaType: string): boolean {
  return listOf(request.headers.accept ?? '').some((element) => isAccepted(element, [mediaType]));
}

/**
 * Returns the first elements of a header that is a list. The node reads no more, because everyone may send thousands.
 */
function listOf(header: string): string[] {
  return header.split(',', limits.maxHeaderElements);
}

function isAccepted(element: string, names: readonly string[]): boolean {
  const [name = '', ...parameters] = element
    .split(';', limits.maxHeaderElements)
    .map((part) => part.trim().toLowerCase());
  return names.includes(name) && !parameters.some((parameter) => /^q=0(?:\.0{0,3})?$/.test(parameter));
}

// Level 1 is faster than most networks, and leaves processor time for commits.
const gzipOptions = { level: 1, chunkSize: 64 * 1024 };

/** Pipes `source` into `target`. Both end and fail together. */
function through(source: Readable, target: Transform): Transform {
  pipeline(source, target, () => {
    // The reader of `target` receives the error.
  });
  return target;
}

/** Resolves when the stream has bytes to read or has ended. Rejects with its error. */
async function waitForFirstBytes(stream: Readable): Promise<void> {
  if (stream.errored !== null) throw stream.errored;
  const settled = new AbortController();
  const { signal } = settled;
  const closed = once(stream, 'close', { signal }).then(() => {
    throw new Error('the stream was closed before its first byte');
  });
  try {
    await Promise.race([once(stream, 'readable', { signal }), closed]);
  } finally {
    settled.abort();
  }
}
