import { once } from 'node:events';
import { PassThrough, type Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MemoryBudget, MemoryShare } from '../../domain/memory.ts';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Connection } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { boundTransaction } from '../connection/session-bounds.ts';
import { renewSnapshot } from '../connection/transaction.ts';

/** Accepts the bytes of a stream. `write` resolves when the next write may follow, and rejects after a disconnect. */
export interface Sink {
  write(bytes: Buffer | string): Promise<void> | undefined;
  /**
   * Reports the bytes of a line that is still arriving, see `Connection.copyOut`. Waits for memory if there is none.
   */
  readonly onLongLine: (bytes: number) => Promise<void>;
}

export interface StreamPlan<Head> {
  /** Reads what the answer needs before the first byte. If it rejects, `openStream` rejects and no body is sent. */
  prepare(connection: Connection): Promise<Head>;
  /**
   * Writes the body. If it rejects, the body is destroyed, so that no reader mistakes a part for the whole. `renew`
   * replaces the snapshot by a new one, for reading what never changes.
   */
  write(connection: Connection, head: Head, sink: Sink, renew: () => Promise<void>): Promise<void>;
  /** Called once, when the body has ended (undefined) or failed. */
  onClose?(error: unknown): void;
  /** Aborts when the client disconnects, also while the stream waits for its share of the pool. */
  signal?: AbortSignal | undefined;
  /** The share of the pool that the stream uses. */
  lane: 'client' | 'operator';
  /** See `OperationContext`. */
  isPatient?: boolean | undefined;
  /** The memory of all answers of the node. Without it, nothing bounds the memory of this stream. */
  memory?: MemoryBudget | undefined;
}

export type StreamContext = Pick<StreamPlan<never>, 'memory' | 'signal'>;

const BODY_BUFFER_BYTES = 512 * 1024;

/** Bounds one write. A client that takes a long line slowly then shows progress, and the buffer stays small. */
const SLICE_BYTES = 64 * 1024;

/** Bounds the parts that are copied into one. COPY yields as much at a time unless a line is longer. */
const MAX_JOINED_BYTES = 512 * 1024;

/** Memory of a long line for each of its bytes: the pieces or the line itself, and the output made of it. */
const LINE_MEMORY_FACTOR = 2;

/** Pause between two attempts to get memory. Other streams free theirs at their own speed. */
const MEMORY_PAUSE_MS = 50;

/**
 * Streams what one `REPEATABLE READ READ ONLY` transaction reads: all of one instant, without delaying commits. The
 * body ends only after the transaction has committed. If the reader disconnects, only its connection is closed. Rejects
 * with `node_busy` if no memory is free for its buffers. When others need the memory of its long lines, a slow stream
 * fails with it.
 */
export function openStream<Head>(database: Database, plan: StreamPlan<Head>): Promise<{ head: Head; body: Readable }> {
  const body = new PassThrough({ highWaterMark: BODY_BUFFER_BYTES });
  const abort = () => body.destroy(readerGone());
  // Until the body has a reader, this is the only listener. A reader receives the error as well.
  body.on('error', () => undefined);
  if (plan.signal?.aborted === true) abort();
  plan.signal?.addEventListener('abort', abort, { once: true });
  const closed = new AbortController();
  const share = plan.memory?.open();
  body.once('close', () => {
    closed.abort();
    share?.close();
  });
  return new Promise((resolve, reject) => {
    const read = async (connection: Connection): Promise<void> => {
      await boundTransaction(connection);
      const head = await plan.prepare(connection);
      share?.resize(BODY_BUFFER_BYTES);
      resolve({ head, body });
      const renew = async (): Promise<void> => {
        await renewSnapshot(connection);
        await boundTransaction(connection);
      };
      await plan.write(connection, head, createSink(body, closed.signal, share), renew);
    };
    database
      .transaction('snapshot', read, { signal: closed.signal, lane: plan.lane, isPatient: plan.isPatient })
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

/** Writes the parts in order. Joins them unless they are long, because a copy of a long line doubles its memory. */
export async function writeParts(sink: Sink, parts: Buffer[]): Promise<void> {
  const bytes = parts.reduce((sum, part) => sum + part.length, 0);
  if (bytes <= MAX_JOINED_BYTES) await sink.write(Buffer.concat(parts));
  else for (const part of parts) await sink.write(part);
}

function createSink(body: PassThrough, closed: AbortSignal, share: MemoryShare | undefined): Sink {
  const writeOne = (bytes: Buffer | string): Promise<void> | undefined => {
    if (body.destroyed) return Promise.reject(goneOrBusy(body));
    share?.countMoved(bytes.length);
    return body.write(bytes) ? undefined : drained(body, closed);
  };
  return {
    write: (bytes) =>
      bytes.length <= SLICE_BYTES ? writeOne(bytes) : writeSlices(Buffer.from(bytes), writeOne, share),
    onLongLine: async (bytes) => {
      // Without a long line, a stream holds so little that it would be lost for nothing.
      share?.makeReclaimable((error) => body.destroy(error));
      await waitForMemory(() => share?.resize(BODY_BUFFER_BYTES + LINE_MEMORY_FACTOR * bytes), closed);
    },
  };
}

async function writeSlices(
  bytes: Buffer,
  writeOne: (slice: Buffer) => Promise<void> | undefined,
  share: MemoryShare | undefined,
): Promise<void> {
  for (let start = 0; start < bytes.length; start += SLICE_BYTES) {
    await writeOne(bytes.subarray(start, start + SLICE_BYTES));
  }
  share?.resize(BODY_BUFFER_BYTES);
  share?.makeFixed();
}

/**
 * Calls `charge` until it no longer throws `node_busy`, for at most `limits.memoryWaitMs`. Other requests free their
 * memory meanwhile. Call it without a connection, unless the stream has one anyway.
 */
export async function waitForMemory(charge: () => void, closed?: AbortSignal): Promise<void> {
  for (let waitedMs = 0; ; waitedMs += MEMORY_PAUSE_MS) {
    try {
      charge();
      return;
    } catch (error) {
      const isBusy = isLoomError(error) && error.code === 'node_busy';
      if (!isBusy || waitedMs >= limits.memoryWaitMs || closed?.aborted === true) throw error;
    }
    await sleep(MEMORY_PAUSE_MS);
  }
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
    throw goneOrBusy(body);
  } finally {
    clearTimeout(timer);
  }
}

/** Returns the error that destroyed the body, such as `node_busy`; otherwise the reader has disconnected. */
function goneOrBusy(body: PassThrough): Error {
  return body.errored ?? readerGone();
}

function readerGone(): LoomError {
  return new LoomError('client_gone', 'The reader disconnected, or read nothing for too long.');
}
