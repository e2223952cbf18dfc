import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { limits } from '../../limits.ts';
import { hasBody } from '../request/body.ts';

/**
 * Answers requests whose body has not been read to its end. If the socket were closed right after the answer, the bytes
 * still on their way would be met by a reset, and the client would lose the answer; if all of them were read, a client
 * that was refused could keep sending for ever. So the answer goes out at once and whole, and then the rest is taken in,
 * up to a bound in time and size, until the client has noticed.
 */
export function registerLinger(app: FastifyInstance): void {
  app.addHook('onSend', async (request, reply, payload) => {
    const { raw } = request;
    if (!hasBody(raw) || raw.complete || raw.readableEnded || raw.destroyed) return payload;
    if (await isSmallRestRead(raw)) return payload;
    reply.header('connection', 'close');
    if (typeof payload !== 'string') return payload;
    reply.header('content-length', String(Buffer.byteLength(payload)));
    return Readable.from(answerThenRead(payload, raw), { objectMode: false });
  });
}

async function isSmallRestRead(request: IncomingMessage): Promise<boolean> {
  const declaredBytes = Number(request.headers['content-length'] ?? Number.POSITIVE_INFINITY);
  if (declaredBytes > limits.lingerSmallBytes) return false;
  return await readRest(request, { maxBytes: limits.lingerSmallBytes, maxMs: limits.lingerSmallMs });
}

async function* answerThenRead(payload: string, request: IncomingMessage): AsyncGenerator<Buffer> {
  yield Buffer.from(payload);
  await readRest(request, { maxBytes: limits.lingerBytes, maxMs: limits.lingerMs });
}

/** Throws away what comes; answers whether that was all of it. */
function readRest(
  request: IncomingMessage,
  { maxBytes, maxMs }: { maxBytes: number; maxMs: number },
): Promise<boolean> {
  return new Promise((resolve) => {
    let bytes = 0;
    const timer = setTimeout(() => stop(false), maxMs);
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      if (bytes > maxBytes) stop(false);
    };
    const onEnd = (): void => stop(true);
    const onClose = (): void => stop(false);
    const stop = (complete: boolean): void => {
      clearTimeout(timer);
      request.off('data', onData);
      request.off('end', onEnd);
      request.off('close', onClose);
      request.pause();
      resolve(complete);
    };
    request.on('data', onData);
    request.on('end', onEnd);
    request.on('close', onClose);
    // Stays: a connection that breaks here has been answered already, as far as it could be.
    request.on('error', () => undefined);
    request.resume();
  });
}
