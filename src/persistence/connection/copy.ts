import type { Client, PoolClient } from 'pg';
import { to as copyTo } from 'pg-copy-streams';
import { cutClient } from './client.ts';
import { throwDatabaseError } from './faults.ts';
import { createPoliteYielder } from './yielder.ts';

/**
 * Makes COPY write each row as one line with unchanged fields. Neither JSON text (RFC 8259 §7) nor a document name can
 * contain a control character, so COPY never quotes or escapes.
 */
const COPY_OPTIONS = `(format csv, delimiter E'\\x02', quote E'\\x01', encoding 'UTF8')`;
const FIELD_SEPARATOR = 0x02;
const LINE_END = 0x0a;

/** Bytes by which an incomplete line grows between two reports of its size. Buffers hold shorter lines anyway. */
const LONG_LINE_BYTES = 1024 * 1024;

/** Bytes to gather before a write: enough to make the cost of a call negligible, and less than a large document. */
export const COPY_CHUNK_BYTES = 128 * 1024;

export interface CopyOutOptions {
  /** Called with the size of an incomplete line, each time that it has grown by `LONG_LINE_BYTES`. */
  onLongLine?: ((bytes: number) => Promise<void>) | undefined;
  /** See `createPoliteYielder`. */
  countOthers: () => number;
  isPatient: boolean;
}

/**
 * Streams the lines of `copy (query) to stdout` without their line ends, in groups as they arrive. Each line is
 * complete, whatever its length. Backpressure reaches PostgreSQL. Leaving the loop early cuts the connection, because
 * the next borrower would read the rest of the COPY.
 */
export async function* copyLines(
  client: Client | PoolClient,
  query: string,
  { onLongLine, ...others }: CopyOutOptions,
): AsyncGenerator<Buffer[]> {
  const report = createReporter(onLongLine);
  let parts: Buffer[] = [];
  for await (const chunk of copyChunks(client, `copy (${query}) to stdout ${COPY_OPTIONS}`, others)) {
    const { lines, rest } = splitLines(parts, chunk);
    parts = rest;
    if (lines.length > 0) yield lines;
    await report(lines.length > 0, lines.length > 0 ? (rest[0]?.length ?? 0) : chunk.length);
  }
}

/** Holds complete rows as PostgreSQL's binary format has them. */
export interface RowBlock {
  bytes: Buffer;
  /** Start and end of each field, row by row. A field that is null is empty. */
  fields: number[];
}

/**
 * Streams the rows of a query in binary format, which costs PostgreSQL less than half as much as lines. A `jsonb` has
 * its version, one byte, before its text. In all else, as `copyLines`.
 */
export async function* copyRows(
  client: Client | PoolClient,
  query: string,
  { onLongLine, ...others }: CopyOutOptions,
): AsyncGenerator<RowBlock> {
  const report = createReporter(onLongLine);
  let parts: Buffer[] = [];
  let size = 0;
  let wanted = BINARY_HEADER_BYTES;
  let hasHeader = false;
  for await (const chunk of copyChunks(client, `copy (${query}) to stdout (format binary, encoding 'UTF8')`, others)) {
    parts.push(chunk);
    size += chunk.length;
    if (size < wanted) {
      await report(false, chunk.length);
      continue;
    }
    const bytes = parts.length === 1 ? chunk : Buffer.concat(parts);
    const block = parseRows(bytes, hasHeader ? 0 : BINARY_HEADER_BYTES);
    hasHeader = true;
    parts = [bytes.subarray(block.end)];
    size = bytes.length - block.end;
    wanted = block.wanted;
    if (block.fields.length > 0) yield { bytes, fields: block.fields };
    await report(true, size);
  }
}

/** Streams the output of a COPY as it arrives. See `copyLines` for its end. */
async function* copyChunks(
  client: Client | PoolClient,
  statement: string,
  { countOthers, isPatient }: Pick<CopyOutOptions, 'countOthers' | 'isPatient'>,
): AsyncGenerator<Buffer> {
  const stream = client.query(copyTo(statement, { highWaterMark: COPY_CHUNK_BYTES }));
  // The loop throws its errors itself. This listener is for an error after the loop has ended.
  stream.on('error', () => undefined);
  let complete = false;
  try {
    const yieldAfter = createPoliteYielder(countOthers, { isPatient });
    for await (const chunk of stream as AsyncIterable<Buffer>) {
      yield chunk;
      await yieldAfter(chunk.length);
    }
    complete = true;
  } catch (error) {
    throwDatabaseError(error);
  } finally {
    if (!complete) cutClient(client);
  }
}

/** Creates a function to call after each chunk: with the bytes of the incomplete line that the chunk adds to it. */
function createReporter(onLongLine: CopyOutOptions['onLongLine']) {
  let openBytes = 0;
  let reportedBytes = 0;
  return async (isNewLine: boolean, bytes: number): Promise<void> => {
    if (isNewLine) reportedBytes = 0;
    openBytes = isNewLine ? bytes : openBytes + bytes;
    if (isNewLine || openBytes - reportedBytes < LONG_LINE_BYTES) return;
    reportedBytes = openBytes;
    await onLongLine?.(openBytes);
  };
}

/** Length of the signature, the flags, and the length of an extension, which PostgreSQL does not write. */
const BINARY_HEADER_BYTES = 19;
const COUNT_BYTES = 2;
const LENGTH_BYTES = 4;

/**
 * Reads the complete rows from `start` on. `end` is the end of the last one, and `wanted` how many bytes after it the
 * next one has at least.
 */
function parseRows(bytes: Buffer, start: number): { fields: number[]; end: number; wanted: number } {
  const fields: number[] = [];
  for (let end = start; ; ) {
    const complete = fields.length;
    let position = end + COUNT_BYTES;
    const columns = position > bytes.length ? 0 : bytes.readInt16BE(end);
    // The trailer has -1 columns.
    if (columns <= 0) return { fields, end: columns < 0 ? position : end, wanted: COUNT_BYTES };
    for (let column = 0; column < columns; column += 1) {
      const next = position + LENGTH_BYTES;
      const length = next > bytes.length ? 0 : Math.max(bytes.readInt32BE(position), 0);
      position = next + length;
      if (position > bytes.length) {
        fields.length = complete;
        return { fields, end, wanted: position - end };
      }
      fields.push(next, position);
    }
    end = position;
  }
}

/** Splits a chunk at line ends. `parts` are the pieces of a line that began in an earlier chunk. */
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

/** Splits a line at its first separator. */
export function splitFields(line: Buffer): [first: Buffer, second: Buffer] {
  const at = line.indexOf(FIELD_SEPARATOR);
  return [line.subarray(0, at), line.subarray(at + 1)];
}
