// Room `answers`: records each answer that a node sends, whoever asks, and checks it against docs/openapi.json. This
// file also runs in the processes of nodes: it imports only Node's own modules.

import { ServerResponse } from 'node:http';
import { Socket } from 'node:net';

/** Holds an answer as a node has sent it. */
export interface SentAnswer {
  method: string;
  /** Path and query. */
  url: string;
  /** Status line and headers. */
  head: string;
  /** The bytes before chunks are framed, perhaps compressed. Empty if the answer has no body. */
  body: Buffer;
  /** Whether `body` has all bytes, and the answer was not cut off. */
  isWhole: boolean;
}

/** Marks the servers of tests that only imitate a node, or change its answers. */
const imitation = Symbol.for('loom.imitation');
const recorded = Symbol.for('loom.recorded');

/** Leaves the answers of this server unchecked. */
export function markImitation(server: object): void {
  Object.assign(server, { [imitation]: true });
}

function isImitation(socket: Socket): boolean {
  return imitation in Object(Reflect.get(socket, 'server'));
}

/** Patches Node's HTTP server in this process: calls `onAnswer` for each answer, with up to `maxBytes` of its body. */
export function recordAnswers(onAnswer: (answer: SentAnswer) => void, maxBytes: number): void {
  // The files of one process share its modules.
  if (recorded in globalThis) return;
  Object.assign(globalThis, { [recorded]: true });
  recordResponses(onAnswer, maxBytes);
  recordParserErrors(onAnswer);
}

interface Recording {
  chunks: Buffer[];
  bytes: number;
}

function recordResponses(onAnswer: (answer: SentAnswer) => void, maxBytes: number): void {
  const recordings = new WeakMap<ServerResponse, Recording>();
  const { write, end } = ServerResponse.prototype;

  function begin(response: ServerResponse): Recording {
    const recording: Recording = { chunks: [], bytes: 0 };
    recordings.set(response, recording);
    const { req: request } = response;
    const { socket, method = '', url = '' } = request;
    // The tests check an answer without a socket themselves. See `inject`.
    if (!(socket instanceof Socket) || isImitation(socket)) return recording;
    let isTold = false;
    const tell = (): void => {
      const head: unknown = Reflect.get(response, '_header');
      if (isTold || typeof head !== 'string') return;
      isTold = true;
      const hasBody = Reflect.get(response, '_hasBody') === true;
      const body = hasBody ? Buffer.concat(recording.chunks) : Buffer.alloc(0);
      onAnswer({ method, url, head, body, isWhole: response.writableFinished && recording.bytes <= maxBytes });
    };
    response.once('finish', tell);
    response.once('close', tell);
    return recording;
  }

  function take(response: ServerResponse, chunk: unknown, encoding: unknown): void {
    const recording = recordings.get(response) ?? begin(response);
    if (typeof chunk !== 'string' && !(chunk instanceof Uint8Array)) return;
    const bytes =
      typeof chunk === 'string'
        ? Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8')
        : Buffer.from(chunk);
    const free = maxBytes - recording.bytes;
    if (free > 0) recording.chunks.push(bytes.subarray(0, free));
    recording.bytes += bytes.length;
  }

  ServerResponse.prototype.write = function (this: ServerResponse, ...given: unknown[]) {
    take(this, given[0], given[1]);
    return Reflect.apply(write, this, given);
  } as typeof write;
  ServerResponse.prototype.end = function (this: ServerResponse, ...given: unknown[]) {
    take(this, given[0], given[1]);
    return Reflect.apply(end, this, given);
  } as typeof end;
}

/** Records the answers to input that Node cannot parse. The node writes them to the socket itself. */
function recordParserErrors(onAnswer: (answer: SentAnswer) => void): void {
  const { end } = Socket.prototype;
  Socket.prototype.end = function (this: Socket, ...given: unknown[]) {
    const [text] = given;
    if (typeof text === 'string' && text.startsWith('HTTP/1.1 ') && !isImitation(this)) {
      const headEnd = text.indexOf('\r\n\r\n') + 4;
      const body = Buffer.from(text.slice(headEnd), 'utf8');
      // The node may not know the method, but only the answer to HEAD has no body.
      const method = body.length === 0 ? 'HEAD' : '?';
      onAnswer({ method, url: '', head: text.slice(0, headEnd), body, isWhole: true });
    }
    return Reflect.apply(end, this, given);
  } as typeof end;
}
