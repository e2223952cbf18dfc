import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import type { PoolClient } from 'pg';
import { from as copyFrom, to as copyTo } from 'pg-copy-streams';
import { limits } from '../../limits.ts';
import { createYielder } from './event-loop.ts';
import { toLoomError } from './faults.ts';

/**
 * Options of COPY under which a row is one line and a field stands in it byte for byte: neither JSON text (RFC 8259
 * §7) nor a document name can hold a control character, so nothing is ever quoted or escaped.
 */
const COPY_OPTIONS = `(format csv, delimiter E'\\x02', quote E'\\x01', encoding 'UTF8')`;
export const FIELD_SEPARATOR = 0x02;
const LINE_END = 0x0a;

/** Bytes gathered before they are sent: large enough that a call per chunk is nothing, small beside a document. */
const COPY_CHUNK_BYTES = 128 * 1024;

/**
 * Cuts the connection off at once: what waits for it rejects, its transaction rolls back, and the pool drops it. The
 * only safe end for a COPY that is given up midway, because its rest would be read by the next borrower.
 */
export function cutConnection(client: PoolClient): void {
  client.connection.stream.destroy();
}

/**
 * The lines of `copy (query) to stdout`, without their line ends, in groups as they arrive; a line of any length is
 * whole. Backpressure reaches PostgreSQL. Leaving the loop early cuts the connection.
 */
export async function* copyLines(client: PoolClient, query: string): AsyncGenerator<Buffer[]> {
  const stream = client.query(copyTo(`copy (${query}) to stdout ${COPY_OPTIONS}`, { highWaterMark: COPY_CHUNK_BYTES }));
  // An error after the loop was left has nobody else to go to; inside the loop it is thrown as well.
  stream.on('error', () => undefined);
  let complete = false;
  try {
    const turn = createYielder();
    let parts: Buffer[] = [];
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      const { lines, rest } = splitLines(parts, chunk);
      parts = rest;
      if (lines.length > 0) yield lines;
      await turn(chunk.length);
    }
    complete = true;
  } catch (error) {
    throw toLoomError(error);
  } finally {
    if (!complete) cutConnection(client);
  }
}

/** Splits a chunk at line ends; `parts` are the pieces of a line that began before it. */
function splitLines(parts: Buffer[], chunk: Buffer): { lines: Buffer[]; rest: Buffer[] } {
  const lines: Buffer[] = [];
  let start = 0;
  let open = parts;
  for (let end = chunk.indexOf(LINE_END); end >= 0; end = chunk.indexOf(LINE_END, start)) {
    const line = chunk.subarray(start, end);
    lines.push(open.length === 0 ? line : Buffer.concat([...open, line]));
    open = [];
    start = end + 1;
  }
  return { lines, rest: start < chunk.length ? [...open, chunk.subarray(start)] : open };
}

/** Both fields of a line of two; the second may hold anything. */
export function splitFields(line: Buffer): [first: Buffer, second: Buffer] {
  const at = line.indexOf(FIELD_SEPARATOR);
  return [line.subarray(0, at), line.subarray(at + 1)];
}

export interface CopyIn {
  /** Takes one line without its end; resolves when more may come. */
  write(...fields: (string | Buffer)[]): Promise<void> | undefined;
  /** Resolves when PostgreSQL has taken all lines. */
  end(): Promise<void>;
  /** Gives it up before its end; resolves when PostgreSQL has let go of it and takes statements again, never rejects. */
  abort(): Promise<void>;
}

const SEPARATOR = Buffer.from([FIELD_SEPARATOR]);
const END_OF_LINE = Buffer.from([LINE_END]);

/** Opens `copy target from stdin`. Until it has ended or was given up, the connection is of no other use. */
export function openCopyIn(client: PoolClient, target: string): CopyIn {
  const stream = client.query(copyFrom(`copy ${target} from stdin ${COPY_OPTIONS}`));
  let failure: unknown;
  stream.on('error', (error) => {
    failure = error;
  });
  let parts: Buffer[] = [];
  let bytes = 0;

  async function flush(): Promise<void> {
    const chunk = Buffer.concat(parts);
    parts = [];
    bytes = 0;
    if (failure !== undefined) throw toLoomError(failure);
    if (stream.write(chunk)) return;
    try {
      await once(stream, 'drain');
    } catch (error) {
      throw toLoomError(error);
    }
  }

  return {
    write: (...fields) => {
      fields.forEach((field, index) => {
        const part = typeof field === 'string' ? Buffer.from(field) : field;
        if (index > 0) parts.push(SEPARATOR);
        parts.push(part);
        bytes += part.length + 1;
      });
      parts.push(END_OF_LINE);
      return bytes >= COPY_CHUNK_BYTES ? flush() : undefined;
    },
    end: async () => {
      if (parts.length > 0) await flush();
      stream.end();
      try {
        await finished(stream);
      } catch (error) {
        throw toLoomError(failure ?? error);
      }
    },
    abort: async () => {
      // What PostgreSQL or the network has ended is over already.
      if (failure !== undefined || stream.writableFinished) return;
      const timer = setTimeout(() => cutConnection(client), limits.rollbackTimeoutMs);
      stream.destroy();
      await finished(stream).catch(() => undefined);
      clearTimeout(timer);
    },
  };
}
