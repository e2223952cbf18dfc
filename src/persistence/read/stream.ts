import { once } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Connection } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { boundTransaction } from '../connection/session-bounds.ts';

/** Accepts the bytes of a stream. `write` resolves when the next write may follow, and rejects after a disconnect. */
export interface Sink {
  write(bytes: Buffer | string): Promise<void> | undefined;
}

export interface StreamPlan<Head> {
  /** Reads what the answer needs before the first byte. If it rejects, `openStream` rejects and no body is sent. */
  prepare(connection: Connection): Promise<Head>;
  /** Writes the body. If it rejects, the body is destroyed, so that no reader mistakes a part for the whole. */
  write(connection: Connection, head: Head, sink: Sink): Promise<void>;
  /** Called once, when the body has ended (undefined) or failed. */
  onClose?(error: unknown): void;
  signal?: AbortSignal;
  /** The share of the pool that the stream uses. */
  lane: 'client' | 'operator';
}

const BODY_BUFFER_BYTES = 512 * 1024;

/**
 * Streams what one `REPEATABLE READ READ ONLY` transaction reads: all of one instant, without delaying commits. The
 * body ends only after the transaction has committed. If the reader disconnects, only its connection is closed.
 */
export function openStream<Head>(database: Database, plan: StreamPlan<Head>): Promise<{ head: Head; body: Readable }> {
  const body = new PassThrough({ highWaterMark: BODY_BUFFER_BYTES });
  const abort = () => body.destroy(readerGone());
  // Until the body has a reader, this is the only listener. A reader receives the error as well.
  body.on('error', () => undefined);
  if (plan.signal?.aborted === true) abort();
  plan.signal?.addEventListener('abort', abort, { once: true });
  const closed = new AbortController();
  body.once('close', () => closed.abort());
  return new Promise((resolve, reject) => {
    const read = async (connection: Connection): Promise<void> => {
      await boundTransaction(connection);
      const head = await plan.prepare(connection);
      resolve({ head, body });
      await plan.write(connection, head, createSink(body, closed.signal));
    };
    database
      .transaction('snapshot', read, { signal: closed.signal, lane: plan.lane })
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

function createSink(body: PassThrough, closed: AbortSignal): Sink {
  return {
    write: (bytes) => {
      if (body.destroyed) return Promise.reject(readerGone());
      if (body.write(bytes)) return undefined;
      return drained(body, closed);
    },
  };
}

/**
 * Resolves when the buffer has room again. Destroys the body after `limits.readerIdleTimeoutMs`: an idle reader
 * occupies a connection, and its transaction snapshot blocks vacuum.
 */
async function drained(body: PassThrough, closed: AbortSignal): Promise<void> {
  const timer = setTimeout(() => body.destroy(readerGone()), limits.readerIdleTimeoutMs);
  try {
    await once(body, 'drain', { signal: closed });
  } catch {
    throw readerGone();
  } finally {
    clearTimeout(timer);
  }
}

function readerGone(): LoomError {
  return new LoomError('client_gone', 'The reader disconnected, or read nothing for too long.');
}
