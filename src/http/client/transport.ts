import type { Readable } from 'node:stream';
import { Agent, request } from 'undici';
import { isLoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { NodeError, readProblem, toNodeError, unexpectedAnswer } from './node-error.ts';

interface RequestOptions {
  method?: 'GET' | 'POST' | 'DELETE';
  /** Path with query. */
  path: string;
  headers?: Record<string, string>;
  body?: string | Readable | null;
  /** Timeout for the headers of the answer. None by default, because a restore may take hours. */
  timeoutMs?: number;
}

export interface TransportOptions {
  /** Base URL of the node. A path works only behind a proxy that removes it. */
  url: string;
  token: string;
  /** Names the user on whose behalf the client sends its requests. The audit entries contain it. */
  actor?: string | undefined;
  /** Aborts requests in flight. */
  signal?: AbortSignal;
}

export type Transport = ReturnType<typeof createTransport>;

/** Creates the transport of a client. Every failure becomes a `NodeError`, and no error contains the token. */
export function createTransport({ url, token, actor, signal }: TransportOptions) {
  const agent = new Agent({
    connect: { timeout: limits.clientConnectTimeoutMs },
    bodyTimeout: limits.clientIdleTimeoutMs,
  });
  // Node sends each character of a header as one byte.
  const named = actor === undefined ? {} : { 'x-loom-actor': Buffer.from(actor, 'utf8').toString('latin1') };
  const base = url.replace(/\/+$/, '');
  /** Converts a connection error, for callers that read a body themselves. */
  const toError = (error: unknown): NodeError => toNodeError(error, base, signal?.aborted === true);

  const fail = (error: unknown): never => {
    throw toError(error);
  };

  async function send({ method = 'GET', path, headers = {}, body = null, timeoutMs = 0 }: RequestOptions) {
    return await request(`${base}${path}`, {
      dispatcher: agent,
      method,
      headers: { 'x-loom-admin-token': token, accept: 'application/json', ...named, ...headers },
      body,
      headersTimeout: timeoutMs,
      ...(signal === undefined ? {} : { signal }),
    });
  }

  /** Sends a request. Resolves with the unread answer if the node accepted the request. */
  async function open(options: RequestOptions) {
    const { statusCode, headers, body } = await send(options).catch(fail);
    const type = String(headers['content-type'] ?? '').split(';')[0];
    if ((statusCode === 200 || statusCode === 202) && type === 'application/json') return { body, headers };
    const { text } = await readStart(body, limits.maxClientErrorBytes).catch(() => ({ text: '' }));
    const problem = statusCode >= 400 ? readProblem(statusCode, text) : undefined;
    const location = headers.location === undefined ? undefined : String(headers.location);
    throw problem ?? unexpectedAnswer(base, { status: statusCode, type, location });
  }

  /** Sends a request and parses its answer. Rejects one without `members`: it comes from another program. */
  async function ask<T>(what: string, members: string[], options: RequestOptions): Promise<T> {
    const { body } = await open(options);
    const { text, isCut } = await readStart(body, limits.maxClientAnswerBytes).catch(fail);
    if (isCut)
      throw fault(`The answer is larger than ${sizeOf(limits.maxClientAnswerBytes)}, the maximum for ${what}.`);
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch {
      throw fault('The answer has the type application/json, but is not JSON.');
    }
    if (members.every((member) => member in Object(json))) return json as T;
    throw fault(`The answer is not ${what}. Check that the URL belongs to a LOOM node.`);
  }

  /** Sends a request and passes its answer to `reader`, which keeps what it needs. The answer may be large. */
  async function scan<T>(what: string, reader: AnswerReader<T>, options: RequestOptions): Promise<T> {
    const { body } = await open(options);
    let bytes = 0;
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        bytes += chunk.length;
        if (bytes > limits.maxClientPageBytes) {
          throw fault(`The answer is larger than ${sizeOf(limits.maxClientPageBytes)}, the maximum for ${what}.`);
        }
        reader.write(chunk);
      }
      return reader.end();
    } catch (error) {
      if (isLoomError(error)) throw fault(`The answer is not ${what}: ${error.message} (byte ${bytes} or earlier).`);
      throw toError(error);
    }
  }

  function fault(message: string): NodeError {
    return new NodeError('unexpected_answer', `${base}: ${message}`, { status: 200 });
  }

  return { open, ask, scan, toError, close: () => agent.destroy() };
}

/** Takes an answer in chunks, and returns what it kept. Throws LoomErrors. */
export interface AnswerReader<T> {
  write(chunk: Buffer): void;
  end(): T;
}

function sizeOf(bytes: number): string {
  return `${bytes / 1_024 / 1_024} MiB`;
}

/** Reads up to `maxBytes` of an answer. `isCut` tells that the answer is longer. */
async function readStart(body: Readable, maxBytes: number): Promise<{ text: string; isCut: boolean }> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > maxBytes) break;
  }
  return { text: Buffer.concat(chunks).toString('utf8'), isCut: bytes > maxBytes };
}
