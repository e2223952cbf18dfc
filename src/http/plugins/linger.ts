import type { IncomingMessage } from 'node:http';
import { PassThrough, pipeline, Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import { limits } from '../../limits.ts';
import type { Connections } from '../connections.ts';
import { hasBody } from '../request/body.ts';
import { isUninvited } from '../request/invitation.ts';

/**
 * Delivers the answer to a request whose body was not read to its end. Closing the socket right after the answer would
 * reset the connection of a client that still sends, and the client would lose the answer. Reading everything would let
 * a refused client send for ever. So the node sends the whole answer at once. Then it reads and discards the rest of
 * the body, within limits of time and size. A connection beyond the maximum closes at once, to leave its place to
 * probes.
 */
export function registerLinger(app: FastifyInstance, { isExtra }: Pick<Connections, 'isExtra'>): void {
  app.addHook('onSend', ({ raw }, reply, payload, done) => {
    // Most answers: without a promise, which every answer would pay for.
    if (raw.complete || !hasBody(raw) || raw.readableEnded || raw.destroyed || isExtra(raw.socket)) done(null, payload);
    else lingerAfter(reply, payload).then((sent) => done(null, sent), done);
  });
}

/** Returns what to send: the payload, or a stream that sends it and then reads the rest of the body. */
async function lingerAfter(reply: FastifyReply, payload: unknown): Promise<unknown> {
  const { raw } = reply.request;
  // A client that waits for an invitation sends nothing more after a final answer.
  if (!isUninvited(raw) && (await isSmallRestRead(raw))) return payload;
  reply.header('connection', 'close');
  if (payload instanceof Readable) return streamAndRead(payload, raw);
  if (typeof payload !== 'string') return payload;
  reply.header('content-length', String(Buffer.byteLength(payload)));
  return Readable.from(answerThenRead(payload, raw), { objectMode: false });
}

async function isSmallRestRead(request: IncomingMessage): Promise<boolean> {
  const declaredBytes = Number(request.headers['content-length'] ?? Number.POSITIVE_INFINITY);
  if (declaredBytes > limits.lingerSmallBytes) return false;
  const signal = AbortSignal.timeout(limits.lingerSmallMs);
  return await readRest(request, { maxBytes: limits.lingerSmallBytes, signal });
}

async function* answerThenRead(payload: string, request: IncomingMessage): AsyncGenerator<Buffer> {
  yield Buffer.from(payload);
  await readRest(request, { maxBytes: limits.lingerBytes, signal: AbortSignal.timeout(limits.lingerMs) });
}

/**
 * Sends a long answer. Reads the rest of the body at the same time, because a client may take nothing before it has
 * sent everything.
 */
function streamAndRead(payload: Readable, request: IncomingMessage): Readable {
  const tooLong = new AbortController();
  const rest = readRest(request, { maxBytes: limits.lingerBytes, signal: tooLong.signal });
  const answer = new PassThrough({
    flush: (done) => {
      const timer = setTimeout(() => tooLong.abort(), limits.lingerMs);
      void rest.then(() => {
        clearTimeout(timer);
        done();
      });
    },
  });
  pipeline(payload, answer, () => {
    // The reader of `answer` receives the error.
  });
  return answer;
}

/** Reads and discards the rest of a body. Resolves to true if it reached the end before the signal aborts. */
function readRest(
  request: IncomingMessage,
  { maxBytes, signal }: { maxBytes: number; signal: AbortSignal },
): Promise<boolean> {
  return new Promise((resolve) => {
    let bytes = 0;
    const onData = (chunk: Buffer): void => {
      bytes += chunk.length;
      if (bytes > maxBytes) stop(false);
    };
    const onEnd = (): void => stop(true);
    const onClose = (): void => stop(false);
    const stop = (complete: boolean): void => {
      signal.removeEventListener('abort', onClose);
      request.off('data', onData);
      request.off('end', onEnd);
      request.off('close', onClose);
      request.pause();
      resolve(complete);
    };
    signal.addEventListener('abort', onClose);
    request.on('data', onData);
    request.on('end', onEnd);
    request.on('close', onClose);
    // Keep this listener: the request has been answered, so a later break of the connection is no error.
    request.on('error', () => undefined);
    request.resume();
  });
}
