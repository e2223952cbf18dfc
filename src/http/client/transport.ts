import type { Readable } from 'node:stream';
import { type Dispatcher, request } from 'undici';
import { limits } from '../../limits.ts';
import { faultOnTheWay, NodeError, problemOf } from './node-error.ts';

export interface RequestOptions {
  method?: 'GET' | 'POST' | 'DELETE';
  /** With its query. */
  path: string;
  headers?: Record<string, string>;
  body?: string | Readable;
  /** Until the head of the answer: without it there is no bound, because a restore takes as long as it takes. */
  timeoutMs?: number;
}

/** A whole answer, parsed. `fault` makes the error for one that is not what was asked for. */
export interface Answer {
  json: unknown;
  fault(message: string): NodeError;
}

export interface OpenAnswer {
  body: Readable;
  headers: Dispatcher.ResponseData['headers'];
}

export interface TransportOptions {
  url: string;
  token: string;
  agent: Dispatcher;
  signal?: AbortSignal;
}

/** One request, one answer. What is not the answer of a node becomes a NodeError, and no error repeats the token. */
export function createTransport({ url, token, agent, signal }: TransportOptions) {
  const base = url.replace(/\/+$/, '');

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
      throw faultOf(error);
    }
  }

  const faultOf = (error: unknown): NodeError => faultOnTheWay(error, base, signal?.aborted === true);

  /** The answer to a request that succeeded, still to be read; reading it rejects with a NodeError. */
  async function open(options: RequestOptions): Promise<OpenAnswer> {
    const answer = await send(options);
    const { statusCode, headers, body } = answer;
    const type = String(headers['content-type'] ?? '').split(';')[0];
    if (statusCode === 200 && type === 'application/json') return { body, headers };
    const text = await readStart(body).catch(() => '');
    const problem = statusCode >= 400 ? problemOf(statusCode, text) : undefined;
    throw problem ?? strangeAnswer(base, statusCode, type);
  }

  return {
    open,
    faultOf,
    /** The whole answer, as JSON. */
    ask: async (options: RequestOptions): Promise<Answer> => {
      const { body } = await open(options);
      const text = await readStart(body).catch((error: unknown) => {
        throw faultOf(error);
      });
      const fault = (message: string) => new NodeError('unexpected_answer', `${base}: ${message}`, { status: 200 });
      try {
        return { json: JSON.parse(text), fault };
      } catch {
        throw fault('The answer says that it is JSON, and is not.');
      }
    },
  };
}

/** An error page, a redirect, a proxy's own words: their text helps nobody on a terminal. */
function strangeAnswer(where: string, status: number, type: string | undefined): NodeError {
  const kind = type === undefined || type === '' ? 'without a type' : `of type ${JSON.stringify(type).slice(0, 80)}`;
  return new NodeError(
    'unexpected_answer',
    `${where}: status ${status} with a body ${kind}, which is not how a node answers: is something in between, or is this another address?`,
    { status },
  );
}

/** An answer that should be short: what is beyond the bound is cut, and then is not JSON any more. */
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
