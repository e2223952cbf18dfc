import { once } from 'node:events';
import { finished } from 'node:stream/promises';
import type { Client, PoolClient } from 'pg';
import { from as copyFrom } from 'pg-copy-streams';
import { limits } from '../../limits.ts';
import { cutClient } from './client.ts';
import { COPY_CHUNK_BYTES } from './copy.ts';
import { throwDatabaseError } from './faults.ts';

/** Names the table and the columns of a `copy … from stdin`. */
export interface CopyTarget {
  table: string;
  columns: readonly string[];
}

/** Takes the fields of one row, in the order of the columns. The verbs are named after the types of these. */
export interface CopyRow {
  addNull(): void;
  /** Adds a `bigint`. */
  addInteger(value: number | bigint): void;
  /** Adds a `timestamptz`, from microseconds since 1970. */
  addTimestamp(microseconds: number | bigint): void;
  addText(text: string): void;
  /** Adds a `text`: the bytes between two positions, which are valid UTF-8. */
  addTextBytes(source: Uint8Array, start: number, end: number): void;
  /** Adds a `jsonb`: a short ASCII text, then the bytes between two positions. */
  addJson(source: Uint8Array, start: number, end: number, prefix?: string): void;
  /** Adds a `bytea` from an even number of hex digits in lower case. */
  addHex(source: Uint8Array, start: number, end: number): void;
  /** Adds a `uuid` from its text in lower case. */
  addUuid(source: Uint8Array, start: number): void;
}

export interface CopyIn {
  /** The current row. */
  row: CopyRow;
  /** Ends the row. Returns a promise if the next row must wait for it. */
  endRow(): Promise<void> | undefined;
  /** Resolves when PostgreSQL has accepted all rows. */
  end(): Promise<void>;
  /** Aborts the copy. Resolves when the connection accepts statements again; never rejects. */
  abort(): Promise<void>;
}

/** Bytes that are kept free for the next row, so that most rows fit. */
const COPY_SLACK_BYTES = 8 * 1024;

/**
 * Opens `copy target from stdin`, see `Connection.openCopyIn`. The binary format costs PostgreSQL 40 % less than lines:
 * it need not look for the ends of fields, and each field has the form that is stored.
 */
export function openCopyIn(client: Client | PoolClient, { table, columns }: CopyTarget): CopyIn {
  const statement = `copy ${table} (${columns.join(', ')}) from stdin (format binary, encoding 'UTF8')`;
  const stream = client.query(copyFrom(statement));
  let failure: unknown;
  stream.on('error', (error) => {
    failure = error;
  });
  const row = new RowWriter(columns.length);

  async function flush(): Promise<void> {
    const full = row.take();
    if (failure !== undefined) throwDatabaseError(failure);
    if (!stream.write(full)) await once(stream, 'drain').catch(throwDatabaseError);
  }

  return {
    row,
    endRow: () => {
      const written = row.used >= COPY_CHUNK_BYTES - COPY_SLACK_BYTES ? flush() : undefined;
      row.beginRow();
      return written;
    },
    end: async () => {
      row.addTrailer();
      await flush();
      stream.end();
      await finished(stream).catch((error: unknown) => throwDatabaseError(failure ?? error));
    },
    abort: async () => {
      // PostgreSQL or the network has already ended the copy.
      if (failure !== undefined || stream.writableFinished) return;
      const timer = setTimeout(() => cutClient(client), limits.rollbackTimeoutMs);
      stream.destroy();
      await finished(stream).catch(() => undefined);
      clearTimeout(timer);
    },
  };
}

/** Signature, flags, and length of an extension of the binary format (documentation of PostgreSQL, COPY). */
const HEADER = Buffer.from('PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0', 'latin1');
const COUNT_BYTES = 2;
const LENGTH_BYTES = 4;
const INTEGER_BYTES = 8;
/** A row with this number of fields is the end. */
const TRAILER = -1;
const NULL_LENGTH = -1;
const JSONB_VERSION = 1;
/** Microseconds from 1970 to 2000, from which PostgreSQL counts. */
const EPOCH_MICROSECONDS = 946_684_800_000_000;
const WORD = 2 ** 32;
const MAX_UTF8_BYTES_PER_UNIT = 3;
/** Bytes that a loop copies faster than a call into the runtime. */
const SHORT_FIELD_BYTES = 64;

/** Maps the code of a lower-case hex digit to its value. */
const HEX_VALUE = Int8Array.from({ length: 256 }, (_, code) => '0123456789abcdef'.indexOf(String.fromCharCode(code)));

const UUID_BYTES = 16;
/** Start and end of each group of digits in the text of a UUID (RFC 9562 §4). */
const UUID_GROUPS = [
  [0, 8],
  [9, 13],
  [14, 18],
  [19, 23],
  [24, 36],
] as const;

/** Writes rows in binary format into a chunk. */
class RowWriter implements CopyRow {
  /** Number of bytes in use of the chunk. */
  used = 0;
  private chunk = Buffer.allocUnsafeSlow(COPY_CHUNK_BYTES);
  private readonly columns: number;

  constructor(columns: number) {
    this.columns = columns;
    this.used = HEADER.copy(this.chunk);
    this.beginRow();
  }

  /** Each row begins with the number of its fields. */
  beginRow(): void {
    this.reserve(COUNT_BYTES);
    this.used = this.chunk.writeInt16BE(this.columns, this.used);
  }

  /** Ends the rows, in place of the row that has begun. */
  addTrailer(): void {
    this.chunk.writeInt16BE(TRAILER, this.used - COUNT_BYTES);
  }

  /** Returns what has been written, and begins a new chunk. */
  take(): Buffer {
    const full = this.chunk.subarray(0, this.used);
    this.chunk = Buffer.allocUnsafeSlow(COPY_CHUNK_BYTES);
    this.used = 0;
    return full;
  }

  addNull(): void {
    this.beginField(0, NULL_LENGTH);
  }

  addInteger(value: number | bigint): void {
    this.beginField(INTEGER_BYTES);
    if (typeof value === 'bigint') {
      this.used = this.chunk.writeBigInt64BE(value, this.used);
      return;
    }
    const high = Math.floor(value / WORD);
    this.used = this.chunk.writeInt32BE(high, this.used);
    this.used = this.chunk.writeUInt32BE(value - high * WORD, this.used);
  }

  addTimestamp(microseconds: number | bigint): void {
    const sinceEpoch = Number(microseconds) - EPOCH_MICROSECONDS;
    // A time before 1715 is too far from the year 2000 for an exact number.
    if (typeof microseconds === 'number' && Number.isSafeInteger(sinceEpoch)) this.addInteger(sinceEpoch);
    else this.addInteger(BigInt(microseconds) - BigInt(EPOCH_MICROSECONDS));
  }

  addText(text: string): void {
    this.reserve(LENGTH_BYTES + text.length * MAX_UTF8_BYTES_PER_UNIT);
    const start = this.used + LENGTH_BYTES;
    const end = start + (this.writeAscii(text, start) ? text.length : this.chunk.write(text, start));
    this.chunk.writeInt32BE(end - start, this.used);
    this.used = end;
  }

  addTextBytes(source: Uint8Array, start: number, end: number): void {
    this.beginField(end - start);
    this.writeBytes(source, start, end);
  }

  addJson(source: Uint8Array, start: number, end: number, prefix = ''): void {
    this.beginField(1 + prefix.length + end - start);
    this.used = this.chunk.writeUInt8(JSONB_VERSION, this.used);
    if (this.writeAscii(prefix, this.used)) this.used += prefix.length;
    this.writeBytes(source, start, end);
  }

  addHex(source: Uint8Array, start: number, end: number): void {
    this.beginField((end - start) / 2);
    this.writeHex(source, start, end);
  }

  addUuid(source: Uint8Array, start: number): void {
    this.beginField(UUID_BYTES);
    for (const [from, to] of UUID_GROUPS) this.writeHex(source, start + from, start + to);
  }

  private writeHex(source: Uint8Array, start: number, end: number): void {
    const { chunk } = this;
    let { used } = this;
    for (let index = start; index < end; index += 2) {
      const high = HEX_VALUE[source[index] as number] as number;
      chunk[used] = high * 16 + (HEX_VALUE[source[index + 1] as number] as number);
      used += 1;
    }
    this.used = used;
  }

  private beginField(bytes: number, length = bytes): void {
    this.reserve(LENGTH_BYTES + bytes);
    this.used = this.chunk.writeInt32BE(length, this.used);
  }

  private reserve(bytes: number): void {
    if (this.used + bytes <= this.chunk.length) return;
    const larger = Buffer.allocUnsafeSlow(this.used + bytes);
    this.chunk.copy(larger, 0, 0, this.used);
    this.chunk = larger;
  }

  /** Writes a short ASCII text faster than the runtime does. Returns false for any other text. */
  private writeAscii(text: string, at: number): boolean {
    if (text.length > SHORT_FIELD_BYTES) return false;
    for (let index = 0; index < text.length; index += 1) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) return false;
      this.chunk[at + index] = code;
    }
    return true;
  }

  private writeBytes(source: Uint8Array, start: number, end: number): void {
    const { chunk, used } = this;
    if (end - start > SHORT_FIELD_BYTES) chunk.set(source.subarray(start, end), used);
    else for (let index = start; index < end; index += 1) chunk[used + index - start] = source[index] as number;
    this.used += end - start;
  }
}
