import { once } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';
import type { Pool, PoolClient } from 'pg';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { cutConnection } from '../connection/copy.ts';
import { inTransaction } from '../connection/transaction.ts';

/** Where a snapshot's bytes go; `write` resolves when more may come, and rejects when the reader has gone. */
export interface Sink {
  write(bytes: Buffer | string): Promise<void> | undefined;
}

export interface StreamPlan<Head> {
  /** Reads what must be known before the first byte. A rejection here leaves nothing to be cut off. */
  prepare(client: PoolClient): Promise<Head>;
  /** Writes the body; what it throws destroys the body, so that no reader takes a part for the whole. */
  write(client: PoolClient, head: Head, sink: Sink): Promise<void>;
  /** Told once, when the body has ended (undefined) or failed. */
  onClose?(error: unknown): void;
  signal?: AbortSignal;
}

const BODY_BUFFER_BYTES = 512 * 1024;

/**
 * Reads one `REPEATABLE READ READ ONLY` transaction into a stream: all of it is of one instant, and commits are not held
 * up. The body ends only after the transaction has. A reader that goes away costs the connection, never the pool.
 */
export function openStream<Head>(pool: Pool, plan: StreamPlan<Head>): Promise<{ head: Head; body: Readable }> {
  const body = new PassThrough({ highWaterMark: BODY_BUFFER_BYTES });
  const abort = () => body.destroy(readerGone());
  // Before it has a reader, nobody else listens; a reader is told as well.
  body.on('error', () => undefined);
  if (plan.signal?.aborted === true) abort();
  plan.signal?.addEventListener('abort', abort, { once: true });
  return new Promise((resolve, reject) => {
    const reading = inTransaction(pool, 'snapshot', async (client) => {
      const cut = () => cutConnection(client);
      body.once('close', cut);
      try {
        if (body.destroyed) cut();
        const head = await plan.prepare(client);
        resolve({ head, body });
        await plan.write(client, head, sinkOf(body));
      } finally {
        body.off('close', cut);
      }
    });
    reading
      .then(
        () => {
          body.end();
          plan.onClose?.(undefined);
        },
        (error: unknown) => {
          reject(error);
          body.destroy(error instanceof Error ? error : new Error(String(error)));
          plan.onClose?.(error);
        },
      )
      .finally(() => plan.signal?.removeEventListener('abort', abort));
  });
}

function sinkOf(body: PassThrough): Sink {
  const gone = new AbortController();
  body.once('close', () => gone.abort());
  return {
    write: (bytes) => {
      if (body.destroyed) return Promise.reject(readerGone());
      if (body.write(bytes)) return undefined;
      return drained(body, gone.signal);
    },
  };
}

/**
 * Resolves when the reader has made room. One that stands still without going away is given up in the end: its snapshot
 * keeps PostgreSQL from cleaning up, and it holds a connection.
 */
async function drained(body: PassThrough, gone: AbortSignal): Promise<void> {
  const patience = setTimeout(() => body.destroy(readerGone()), limits.readerIdleTimeoutMs);
  try {
    await once(body, 'drain', { signal: gone });
  } catch {
    throw readerGone();
  } finally {
    clearTimeout(patience);
  }
}

function readerGone(): LoomError {
  return new LoomError('client_gone', 'The reader went away, or stood still for too long.');
}
