import { pipeline, type Readable, type Transform } from 'node:stream';
import { createGzip } from 'node:zlib';
import type { FastifyReply, FastifyRequest } from 'fastify';

/** Aborted when the client goes away before it has the whole answer. */
export function abortSignalOf(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  const { raw } = reply;
  if (raw.destroyed) controller.abort();
  raw.once('close', () => {
    if (!raw.writableFinished) controller.abort();
  });
  return controller.signal;
}

/**
 * Answers with a stream once its first bytes are there: until then a failure is still a problem with a status. After that
 * a failure destroys the socket, so that the client sees a broken transfer and never a clean end. A client that goes away
 * destroys the stream.
 */
export async function sendStream(
  reply: FastifyReply,
  source: Readable,
  { gzip = false, beforeEnd }: { gzip?: boolean; beforeEnd?: Transform } = {},
): Promise<FastifyReply> {
  const encoded = gzip ? through(source, createGzip(gzipOptions)) : source;
  const payload = beforeEnd === undefined ? encoded : through(encoded, beforeEnd);
  if (gzip) reply.header('content-encoding', 'gzip');
  await firstBytes(payload);
  return reply.send(payload);
}

/** RFC 9110 §12.5.3: gzip is named, and not with a weight of zero. */
export function acceptsGzip(request: FastifyRequest): boolean {
  const header = request.headers['accept-encoding'];
  return typeof header === 'string' && header.split(',').some(isGzip);
}

/** Whether a media type is named by `Accept`, and not with a weight of zero. Ranges with `*` do not ask for it. */
export function acceptsType(request: FastifyRequest, mediaType: string): boolean {
  return (request.headers.accept ?? '').split(',').some((element) => elementIs(element, [mediaType]));
}

function isGzip(element: string): boolean {
  return elementIs(element, ['gzip', 'x-gzip']);
}

function elementIs(element: string, names: readonly string[]): boolean {
  const [name = '', ...parameters] = element.split(';').map((part) => part.trim().toLowerCase());
  return names.includes(name) && !parameters.some((parameter) => /^q=0(?:\.0{0,3})?$/.test(parameter));
}

// The network is slower than the fastest level, and the processor has commits to serve.
const gzipOptions = { level: 1, chunkSize: 64 * 1024 };

/** Errors of `source` become errors of `target`, and the end of either is the end of both. */
function through(source: Readable, target: Transform): Transform {
  pipeline(source, target, () => {
    // Whoever reads the target finds the error there.
  });
  return target;
}

/** Resolves when there is something to read, or the end; rejects with the stream's error. */
function firstBytes(stream: Readable): Promise<void> {
  return new Promise((resolve, reject) => {
    const settle = (error?: Error): void => {
      stream.off('readable', onReadable);
      stream.off('error', settle);
      stream.off('close', onClose);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onReadable = (): void => settle();
    const onClose = (): void => settle(new Error('a stream was closed before it had begun'));
    if (stream.errored !== null) return settle(stream.errored);
    stream.on('readable', onReadable);
    stream.on('error', settle);
    stream.on('close', onClose);
  });
}
