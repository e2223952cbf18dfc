import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import type { MemoryBudgets, MemoryShare } from '../../domain/memory.ts';
import { limits } from '../../limits.ts';
import { onceDone } from '../reply/done.ts';

/**
 * Gives each request a share of both budgets, and frees it when the answer has been sent or the client has
 * disconnected. Sends every answer that is one long text in slices, and charges it. A stream of the store charges its
 * own lines.
 */
export function registerMemory(app: FastifyInstance, { bodies, answers }: MemoryBudgets): void {
  app.decorateRequest('memory');
  app.addHook('onRequest', (request, reply, done) => {
    const memory = { body: bodies.open(), answer: answers.open() };
    request.memory = memory;
    onceDone(reply, () => {
      memory.body.close();
      memory.answer.close();
    });
    done();
  });
  app.addHook('onSend', async ({ memory }, reply, payload) => {
    if (typeof payload !== 'string' || payload.length <= limits.smallTextBytes) return payload;
    const bytes = Buffer.from(payload);
    memory.answer.resize(bytes.length);
    reply.header('content-length', String(bytes.length));
    return sliced(bytes, memory.answer);
  });
}

/**
 * Streams the bytes in slices, so that a slow client is told from a fast one. If the share is lost, the stream fails.
 */
function sliced(bytes: Buffer, share: MemoryShare): Readable {
  let start = 0;
  const stream = new Readable({
    read: () => {
      const slice = bytes.subarray(start, start + limits.smallTextBytes);
      start += slice.length;
      share.countMoved(slice.length);
      stream.push(slice.length === 0 ? null : slice);
    },
  });
  share.makeReclaimable((error) => stream.destroy(error));
  return stream;
}
