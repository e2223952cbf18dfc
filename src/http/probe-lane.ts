import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Readiness } from '../domain/health/readiness.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { hasPlainHead } from './plugins/request-head.ts';
import { toJsonLine } from './reply/json.ts';
import { requestIdOf } from './request/request-id.ts';

interface ProbeLaneParts {
  readiness: () => Readiness;
  isDraining: () => boolean;
  /** Whether the connection of the request was accepted beyond the maximum. */
  isExtra: (socket: IncomingMessage['socket']) => boolean;
  log: Pick<Log, 'isLevelEnabled'>;
  metrics: Pick<Metrics, 'countRequest'>;
}

interface Answer {
  status: number;
  body: string;
  bytes: string;
}

export type AnswerProbe = (request: IncomingMessage, response: ServerResponse) => boolean;

/**
 * Creates a function that answers a plain `GET /live` or `GET /ready` without Fastify, and returns whether it did. The
 * answer is that of `routes/probes.ts`, byte for byte. Fastify gets every other form of a probe: with a query, with a
 * body or an unusual head, on a connection that the answer closes, or while the log has a line for each probe. A plain
 * probe needs no hook. Without the hooks, it costs as little as a bare handler of Fastify.
 */
export function createProbeLane({ readiness, isDraining, isExtra, log, metrics }: ProbeLaneParts): AnswerProbe {
  const live = toAnswer(200, { ok: true });
  let last: { readiness: Readiness; answer: Answer } | undefined;

  function ready(): Answer {
    const now = readiness();
    if (last?.readiness !== now) last = { readiness: now, answer: toAnswer(now.ok ? 200 : 503, now) };
    return last.answer;
  }

  return (request, response) => {
    const { url: route, method, socket } = request;
    if (method !== 'GET' || (route !== '/live' && route !== '/ready') || !hasPlainHead(request)) return false;
    if (isDraining() || isExtra(socket) || log.isLevelEnabled('debug')) return false;
    const startedMs = performance.now();
    const { status, body, bytes } = route === '/live' ? live : ready();
    response.writeHead(status, [
      'x-request-id',
      requestIdOf(request),
      'cache-control',
      'no-store',
      'x-content-type-options',
      'nosniff',
      'content-type',
      'application/json; charset=utf-8',
      'content-length',
      bytes,
    ]);
    response.end(body);
    response.on('close', () =>
      metrics.countRequest({ method, route, status, durationMs: performance.now() - startedMs, isProbe: true }),
    );
    return true;
  };
}

function toAnswer(status: number, value: unknown): Answer {
  const body = toJsonLine(value);
  return { status, body, bytes: String(Buffer.byteLength(body)) };
}
