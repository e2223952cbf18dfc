import { connect, type Socket } from 'node:net';
import { gzipSync } from 'node:zlib';

/** A client that ignores every courtesy of HTTP. Errors of its socket are expected. */
export interface HostileClient {
  socket: Socket;
  /** Returns what the node has sent so far, for clients that read. */
  received(): string;
  closed: Promise<void>;
}

export interface HostileOptions {
  port: number;
  /** Sent at once. */
  bytes: string | Buffer;
  /** Whether the client reads what the node sends. */
  reads: boolean;
  /** Sent again in this interval. */
  drip?: { bytes: string; everyMs: number };
}

export function openHostile({ port, bytes, reads, drip }: HostileOptions): HostileClient {
  const socket = connect(port, '127.0.0.1');
  const chunks: string[] = [];
  socket.on('error', () => undefined);
  if (reads) socket.on('data', (chunk: Buffer) => chunks.push(chunk.toString('latin1')));
  else socket.pause();
  socket.write(bytes);
  const timer = drip === undefined ? undefined : setInterval(() => socket.write(drip.bytes), drip.everyMs);
  const closed = new Promise<void>((resolve) =>
    socket.once('close', () => {
      clearInterval(timer);
      resolve();
    }),
  );
  return { socket, received: () => chunks.join(''), closed };
}

export function requestHead(method: string, path: string, headers: Record<string, string>): string {
  const lines = Object.entries({ host: 'x', ...headers }).map(([name, value]) => `${name}: ${value}`);
  return `${[`${method} ${path} HTTP/1.1`, ...lines].join('\r\n')}\r\n\r\n`;
}

/** Returns a chunk of a body whose end does not follow. */
export function bodyChunk(bytes: Buffer): Buffer {
  return Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
}

/** Returns gzip data without its end. It unpacks to `bytes` bytes of one JSON string that never ends. */
export function unfinishedBomb(bytes: number, start = '"'): Buffer {
  const packed = gzipSync(Buffer.concat([Buffer.from(start), Buffer.alloc(bytes, 'x')]), { level: 9 });
  return packed.subarray(0, packed.length - 12);
}
