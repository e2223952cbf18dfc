import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { MemoryBudget, MemoryBudgets, MemoryShare } from '../../domain/memory.ts';
import { limits } from '../../limits.ts';
import { onceDone } from '../reply/done.ts';

/**
 * Gives each request its shares of both budgets. Sends every answer that is one long text in slices, and charges it. A
 * stream of the store charges its own lines.
 */
export function registerMemory(app: FastifyInstance, budgets: MemoryBudgets): void {
  app.decorateRequest('memory');
  app.addHook('onRequest', (request, reply, done) => {
    request.memory = new RequestMemory(reply, budgets);
    done();
  });
  app.addHook('onSend', ({ memory }, reply, payload, done) => {
    if (typeof payload !== 'string' || payload.length <= limits.smallTextBytes) {
      done(null, payload);
      return;
    }
    const bytes = Buffer.from(payload);
    memory.answer.resize(bytes.length);
    reply.header('content-length', String(bytes.length));
    done(null, sliced(bytes, memory.answer));
  });
}

/**
 * Opens the shares of one request when they are first used, because most requests use none. Closes them when the answer
 * has been sent or the client has disconnected.
 */
class RequestMemory {
  readonly #reply: FastifyReply;
  readonly #budgets: MemoryBudgets;
  #body: MemoryShare | undefined;
  #answer: MemoryShare | undefined;

  constructor(reply: FastifyReply, budgets: MemoryBudgets) {
    this.#reply = reply;
    this.#budgets = budgets;
  }

  get body(): MemoryShare {
    this.#body ??= this.#open(this.#budgets.bodies);
    return this.#body;
  }

  get answer(): MemoryShare {
    this.#answer ??= this.#open(this.#budgets.answers);
    return this.#answer;
  }

  #open(budget: MemoryBudget): MemoryShare {
    const share = budget.open();
    onceDone(this.#reply, share.close);
    return share;
  }
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
