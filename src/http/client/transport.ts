import type { Readable } from 'node:stream';
import { type Dispatcher, request } from 'undici';
import { limits } from '../../limits.ts';
import { NodeError, readProblem, toNodeError } from './node-error.ts';

export interface RequestOptions {
  method?: 'GET' | 'POST' | 'DELETE';
  /** Path with query. */
  path: string;
  headers?: Record<string, string>;
  body?: string | Readable;
  /** Time limit for the head of the answer. None by default, because a restore may take any time. */
  timeoutMs?: number;
}

/** Holds a whole answer, parsed. `fault` creates the error for an unexpected one. */
export interface Answer {
  json: unknown;
  fault(message: string): NodeError;
}

interface OpenAnswer {
  body: Readable;
  headers: Dispatcher.ResponseData['headers'];
}

interface TransportOptions {
  url: string;
  token: string;
  agent: Dispatcher;
  signal?: AbortSignal;
}

export interface Transport {
  /** Sends a request. Resolves with the answer, its body unread, once the node has accepted the request. */
  open(options: RequestOptions): Promise<OpenAnswer>;
  /** Sends a request and reads the whole answer as JSON. */
  ask(options: RequestOptions): Promise<Answer>;
  /** Converts an error of the connection, for callers that read a body themselves. */
  toError(error: unknown): NodeError;
}

/** Creates the transport of a client. Every failure becomes a `NodeError`, and no error contains the token. */
export function createTransport({ url, token, agent, signal }: TransportOptions): Transport {
  const base = url.replace(/\/+$/, '');
  const toError = (error: unknown): NodeError => toNodeError(error, base, signal?.aborted === true);

  async function send({ method = 'GET', path, headers = {}, body, timeoutMs = 0 }: RequestOptions) {
    try {
      return await request(`${base}${path}`, {
        dispatcher: agent,
        method,
        headers: { 'x-loom-admin-token': token, accept: 'application/json', ...headers },
        body: body ?? null,
        headersTimeout: timeoutMs,
        ...(signal === undefined ? {} : { signal }),
      });
    } catch (error) {
      throw toError(error);
    }
  }

  async function open(options: RequestOptions): Promise<OpenAnswer> {
    const { statusCode, headers, body } = await send(options);
    const type = String(headers['content-type'] ?? '').split(';')[0];
    if (statusCode === 200 && type === 'application/json') return { body, headers };
    const text = await readStart(body).catch(() => '');
    const problem = statusCode >= 400 ? readProblem(statusCode, text) : undefined;
    throw problem ?? unexpectedAnswer(base, statusCode, type);
  }

  async function ask(options: RequestOptions): Promise<Answer> {
    const { body } = await open(options);
    const text = await readStart(body).catch((error: unknown) => {
      throw toError(error);
    });
    const fault = (message: string) => new NodeError('unexpected_answer', `${base}: ${message}`, { status: 200 });
    try {
      return { json: JSON.parse(text), fault };
    } catch {
      throw fault('The answer has the type application/json, but is not JSON.');
    }
  }

  return { open, ask, toError };
}

/** Describes an error page, a redirect or an answer of a proxy. Leaves its text out: it does not help on a terminal. */
function unexpectedAnswer(where: string, status: number, type: string | undefined): NodeError {
  const kind = type === undefined || type === '' ? 'without a type' : `of type ${JSON.stringify(type).slice(0, 80)}`;
  return new NodeError(
    'unexpected_answer',
    `${where}: The answer has status ${status} and a body ${kind}, so it is not from a node. ` +
      'Check the URL and any proxy in between.',
    { status },
  );
}

/** Reads an answer that should be short. Cuts it off beyond the limit, so that it is no longer valid JSON. */
async function readStart(body: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > limits.maxClientAnswerBytes) break;
  }
  return Buffer.concat(chunks).toString('utf8');
}
