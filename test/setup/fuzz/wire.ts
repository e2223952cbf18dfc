import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { gunzipSync } from 'node:zlib';

/** An answer as the node sent it. */
export interface WireAnswer {
  status: number;
  /** With names in lower case. */
  headers: Record<string, string>;
  /** The decoded body. */
  text: string;
  /** Whether the node ends the connection after it. */
  closes: boolean;
}

/** A longer wait for an answer is a fault, whatever the load of the machine. */
const maxWaitMs = 30_000;

/**
 * Reads the first answer of the bytes, which must be framed as RFC 9112 says. Skips interim answers (1xx). Returns
 * undefined if it is not complete. Throws if it is malformed.
 */
export function readAnswer(
  bytes: Buffer,
  method: string,
  isClosed: boolean,
): { answer: WireAnswer; rest: Buffer } | undefined {
  const headEnd = bytes.indexOf('\r\n\r\n');
  if (headEnd < 0) return undefined;
  const [statusLine = '', ...lines] = bytes.subarray(0, headEnd).toString('latin1').split('\r\n');
  const status = Number(/^HTTP\/1\.1 (\d{3}) [ -~]*$/.exec(statusLine)?.[1]);
  if (!(status >= 100)) throw new Error(`the status line is malformed: ${JSON.stringify(statusLine)}`);
  const headers = readHeaders(lines);
  const after = bytes.subarray(headEnd + 4);
  if (status < 200) return readAnswer(after, method, isClosed);
  const hasBody = method !== 'HEAD' && status !== 204 && status !== 304;
  const read = hasBody ? readBody(after, headers, isClosed) : { body: Buffer.alloc(0), rest: after };
  if (read === undefined) return undefined;
  const body = headers['content-encoding'] === 'gzip' && hasBody ? gunzipSync(read.body) : read.body;
  const isChunked = headers['transfer-encoding'] === 'chunked';
  const isEnded = headers.connection?.toLowerCase() === 'close';
  const hasEnd = isChunked || headers['content-length'] !== undefined || !hasBody;
  const encoding = isBinary(headers['content-type']) ? 'latin1' : 'utf8';
  const text = body.toString(encoding);
  if (!Buffer.from(text, encoding).equals(body)) throw new Error('the body is not UTF-8');
  return { answer: { status, headers, text, closes: isEnded || !hasEnd }, rest: read.rest };
}

/** Returns whether the body is a stored backup. */
function isBinary(type: string | undefined): boolean {
  return type === 'application/gzip' || type === 'application/octet-stream';
}

function readHeaders(lines: string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t\x20-\x7e\x80-\xff]*)$/.exec(line) ?? [];
    if (name === undefined || value === undefined) throw new Error(`a header is malformed: ${JSON.stringify(line)}`);
    if (name.toLowerCase() in headers) throw new Error(`the answer has the header ${name} twice`);
    headers[name.toLowerCase()] = value;
  }
  return headers;
}

function readBody(
  bytes: Buffer,
  headers: Record<string, string>,
  isClosed: boolean,
): { body: Buffer; rest: Buffer } | undefined {
  const length = headers['content-length'];
  const coding = headers['transfer-encoding'];
  if (length !== undefined && coding !== undefined) throw new Error('the answer has two lengths');
  if (coding !== undefined) return readChunks(bytes);
  if (length === undefined) return isClosed ? { body: bytes, rest: Buffer.alloc(0) } : undefined;
  if (!/^\d+$/.test(length)) throw new Error(`content-length is malformed: ${length}`);
  if (bytes.length < Number(length)) return undefined;
  return { body: bytes.subarray(0, Number(length)), rest: bytes.subarray(Number(length)) };
}

function readChunks(bytes: Buffer): { body: Buffer; rest: Buffer } | undefined {
  const chunks: Buffer[] = [];
  for (let at = 0; ; ) {
    const lineEnd = bytes.indexOf('\r\n', at);
    if (lineEnd < 0) return undefined;
    const size = bytes.subarray(at, lineEnd).toString('latin1');
    if (!/^[0-9a-f]+$/i.test(size)) throw new Error(`the size of a chunk is malformed: ${JSON.stringify(size)}`);
    const [start, end] = [lineEnd + 2, lineEnd + 2 + Number.parseInt(size, 16)];
    if (bytes.length < end + 2) return undefined;
    if (bytes.toString('latin1', end, end + 2) !== '\r\n') throw new Error('a chunk has no end');
    if (start === end) return { body: Buffer.concat(chunks), rest: bytes.subarray(end + 2) };
    chunks.push(bytes.subarray(start, end));
    at = end + 2;
  }
}

/** A client of one connection at a time, which sends bytes as they are. */
export interface WireClient {
  /** Sends one request, on the connection of the last one if the node has kept it. Rejects if there is no answer. */
  exchange(bytes: Buffer, method: string): Promise<WireAnswer>;
  close(): void;
}

export function createWireClient(port: number): WireClient {
  let socket: Socket | undefined;
  return {
    exchange: async (bytes, method) => {
      const current = socket ?? openSocket(port);
      socket = current;
      try {
        const answer = await new Promise<WireAnswer>((resolve, reject) => {
          listen(current, { resolve, reject, method });
          current.write(bytes);
        });
        if (answer.closes) drop();
        return answer;
      } catch (error) {
        drop();
        throw error;
      }
    },
    close: drop,
  };

  function drop(): void {
    socket?.destroy();
    socket = undefined;
  }
}

function openSocket(port: number): Socket {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true });
  // A reset after the answer is no fault. One before it ends the connection without an answer.
  socket.on('error', () => undefined);
  return socket;
}

function listen(
  socket: Socket,
  {
    resolve,
    reject,
    method,
  }: { resolve: (answer: WireAnswer) => void; reject: (error: Error) => void; method: string },
): void {
  const chunks: Buffer[] = [];
  const timer = setTimeout(() => fail(new Error(`no answer within ${maxWaitMs} ms`)), maxWaitMs);
  socket.on('data', onData).once('close', onClose);

  function onData(chunk: Buffer): void {
    chunks.push(chunk);
    look(false);
  }
  function onClose(): void {
    look(true);
    fail(new Error(`the connection ended before the answer was complete: ${preview(Buffer.concat(chunks))}`));
  }
  function look(isClosed: boolean): void {
    try {
      const read = readAnswer(Buffer.concat(chunks), method, isClosed);
      if (read === undefined) return;
      stop();
      if (read.rest.length > 0) reject(new Error(`bytes follow the answer: ${preview(read.rest)}`));
      else resolve(read.answer);
    } catch (error) {
      fail(error instanceof Error ? error : new Error(String(error)));
    }
  }
  function fail(error: Error): void {
    stop();
    reject(error);
  }
  function stop(): void {
    clearTimeout(timer);
    socket.off('data', onData).off('close', onClose);
  }
}

export function preview(bytes: Buffer, maxBytes = 300): string {
  return JSON.stringify(bytes.subarray(0, maxBytes).toString('latin1')) + (bytes.length > maxBytes ? ' …' : '');
}

/**
 * How a raw exchange ends: the client waits until the node ends it, or ends its own side at once or a little later, or
 * disconnects.
 */
export type RawEnd = 'wait' | 'half-close' | 'late half-close' | 'disconnect';

const lateMs = 40;

/** Sends the pieces on a new connection, with pauses. Resolves with all that the node sends until the end. */
export async function exchangeRaw(
  port: number,
  pieces: readonly Buffer[],
  { pauseMs, end }: { pauseMs: number; end: RawEnd },
): Promise<Buffer> {
  const socket = openSocket(port);
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  for (const [index, piece] of pieces.entries()) {
    if (index > 0 && pauseMs > 0) await sleep(pauseMs);
    if (socket.destroyed) break;
    await new Promise<void>((resolve) => socket.write(piece, () => resolve()));
  }
  if (end === 'late half-close') await sleep(lateMs);
  if (end === 'disconnect') socket.destroy();
  else if (end !== 'wait' && !socket.destroyed) socket.end();
  const timer = setTimeout(() => socket.destroy(new Error('too late')), maxWaitMs);
  const startedMs = performance.now();
  await closed;
  clearTimeout(timer);
  if (performance.now() - startedMs > maxWaitMs - 1) throw new Error(`the node did not end within ${maxWaitMs} ms`);
  return Buffer.concat(chunks);
}
