import { type IncomingMessage, request, type ServerResponse } from 'node:http';
import { setTimeout as wait } from 'node:timers/promises';
import { listen } from '../node/http-proxy.ts';
import { createUploadBook, sendError, type UploadBook } from './upload-book.ts';

/**
 * What the proxy does with a request instead of forwarding it:
 *
 * - `refused`, `skewed`, `failed`, `full`: answers with an error of S3: 403, a wrong clock, 500, 507.
 * - `error-inside`: answers 200 with an error in the body. Nothing is stored.
 * - `lost-answer`: forwards the request, then closes the connection without an answer.
 * - `reset`: resets the connection in the middle of the request's body, or of the answer.
 * - `slow`: takes a large body at 16 KiB every 50 ms. Without one, it forwards the request, and sends one byte of the
 *   answer every 20 ms.
 * - `hang`: never answers.
 * - `cut`: reports half of the size, for a HEAD, as a service does that stores less than it received.
 */
export const proxyFaults = [
  'refused',
  'skewed',
  'failed',
  'full',
  'error-inside',
  'lost-answer',
  'reset',
  'slow',
  'hang',
] as const;

export type ProxyFault = (typeof proxyFaults)[number];

export interface Injection {
  fault: ProxyFault | 'cut';
  /** Selects the requests. Default: all. */
  when?: (request: { method: string; url: string }) => boolean;
  /** Number of requests. Default: all. */
  times?: number;
}

export interface FaultProxy {
  endpoint: string;
  /** Makes a fault until the next call. Undefined for none. */
  inject(injection: Injection | undefined): void;
  /** Method and path of every request, and whether it expects a `100 Continue`. */
  asked: string[];
  close(): Promise<void>;
}

/**
 * Starts a proxy in front of an S3 service. With `completes`, it also adds what `s3rver` lacks: the list of unfinished
 * uploads, their end, and `If-None-Match` for a put.
 */
export async function startFaultProxy(target: string, { completes }: { completes: boolean }): Promise<FaultProxy> {
  let injection: Injection | undefined;
  let left = 0;
  const asked: string[] = [];
  const book = completes ? createUploadBook(target) : undefined;
  const server = await listen((question, answer) => {
    const { method = '', url = '' } = question;
    asked.push(`${method} ${url}${question.headers.expect === undefined ? '' : ' with Expect'}`);
    const isMeant = injection !== undefined && left > 0 && (injection.when?.({ method, url }) ?? true);
    if (isMeant) left -= 1;
    void handle(isMeant ? injection?.fault : undefined, question, answer, { target, book }).catch(() =>
      question.destroy(),
    );
  });
  return {
    endpoint: server.url,
    asked,
    inject: (next) => {
      injection = next;
      left = next?.times ?? Number.POSITIVE_INFINITY;
    },
    close: server.close,
  };
}

async function handle(
  fault: Injection['fault'] | undefined,
  question: IncomingMessage,
  answer: ServerResponse,
  { target, book }: { target: string; book: UploadBook | undefined },
): Promise<void> {
  switch (fault) {
    case 'refused':
      return sendError(question, answer, 403, 'AccessDenied', 'Access Denied.');
    case 'skewed':
      return sendError(question, answer, 403, 'RequestTimeTooSkewed', 'The request time differs too much.');
    case 'failed':
      return sendError(question, answer, 500, 'InternalError', 'We encountered an internal error.');
    case 'full':
      return sendError(
        question,
        answer,
        507,
        'XMinioStorageFull',
        'Storage backend has reached its minimum free drive.',
      );
    case 'error-inside':
      return sendError(question, answer, 200, 'InternalError', 'We encountered an internal error.');
    case 'hang':
      question.resume();
      return;
    case 'reset':
      if (Number(question.headers['content-length'] ?? 0) > 0) {
        question.once('data', () => question.socket.resetAndDestroy());
        return;
      }
      break;
    case 'slow':
      if (Number(question.headers['content-length'] ?? 0) > SIP_BYTES) return await sip(question);
      break;
    default:
  }
  if (fault === undefined && (await book?.answer(question, answer)) === true) return;
  const given = await ask(target, question);
  book?.note(question, given);
  if (fault === 'lost-answer') {
    given.resume();
    given.once('end', () => question.socket.resetAndDestroy());
    return;
  }
  answer.writeHead(given.statusCode ?? 502, fault === 'cut' ? halve(given.rawHeaders) : given.rawHeaders);
  if (fault === 'slow') return await drip(given, answer);
  if (fault === 'reset') {
    // Half of a large body, or the head alone.
    given.once('data', (chunk: Buffer) =>
      answer.write(chunk.subarray(0, chunk.length >> 1), () => question.socket.resetAndDestroy()),
    );
    given.once('end', () => question.socket.resetAndDestroy());
    return;
  }
  given.pipe(answer);
}

const SIP_BYTES = 16 * 1024;

/** Reads a body so slowly that its sender must wait, and never answers. */
async function sip(question: IncomingMessage): Promise<void> {
  while (!question.destroyed) {
    question.read(SIP_BYTES);
    await wait(50);
  }
}

async function drip(given: IncomingMessage, answer: ServerResponse): Promise<void> {
  answer.flushHeaders();
  for await (const chunk of given as AsyncIterable<Buffer>) {
    for (const byte of chunk) {
      if (answer.destroyed) return;
      answer.write(Buffer.from([byte]));
      await wait(20);
    }
  }
  answer.end();
}

/** Returns the headers of an answer with half of its length. */
function halve(rawHeaders: string[]): string[] {
  const isLength = (index: number): boolean => rawHeaders[index - 1]?.toLowerCase() === 'content-length';
  return rawHeaders.map((text, index) => (index % 2 === 1 && isLength(index) ? String(Number(text) >> 1) : text));
}

function ask(target: string, question: IncomingMessage): Promise<IncomingMessage> {
  const { method, url = '', rawHeaders } = question;
  return new Promise((resolve, reject) => {
    // The host is signed, so it stays that of the proxy.
    const forwarded = request(new URL(url, target), {
      method,
      headers: rawHeaders as unknown as string[],
      agent: false,
    });
    forwarded.once('response', resolve);
    forwarded.once('error', reject);
    question.pipe(forwarded);
    question.once('close', () => question.complete || forwarded.destroy());
  });
}
