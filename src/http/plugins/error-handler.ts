import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { isLoomError, type LoomError } from '../../errors.ts';
import { toProblem } from '../reply/problem.ts';

/** Lists headers of a successful answer that a route may have set before it failed. */
const headersOfSuccess = [
  'etag',
  'last-modified',
  'location',
  'content-disposition',
  'content-encoding',
  'accept-ranges',
  'vary',
];

/** Logs the cause of a failed request, once for many requests. */
export type ReportFailure = (error: LoomError) => void;

/**
 * Lists codes without a line about their cause: each `internal` error is logged in full, the operator causes
 * `draining`.
 */
const unreported: ReadonlySet<string> = new Set(['internal', 'draining']);

/** Answers every error with a problem body, and logs unexpected errors in full under the request id. */
export function registerErrorHandler(app: FastifyInstance, reportFailure: ReportFailure): void {
  app.decorateRequest('problemCode', undefined);
  const note = (request: FastifyRequest, error: unknown, code: string): void => {
    request.problemCode = code;
    if (isLoomError(error) && error.status >= 500 && !unreported.has(code)) reportFailure(error);
  };
  app.addHook('onSend', (request, _reply, payload, done) => {
    // A stream that fails after the head cannot become a problem. The client sees an aborted answer, and the log why.
    if (payload instanceof Readable) {
      payload.once('error', (error: unknown) => {
        if (isLoomError(error)) note(request, error, error.code);
      });
    }
    done(null, payload);
  });
  app.setErrorHandler((error, request, reply) => {
    const problem = toProblem(error, request.id);
    if (problem.code === 'internal') request.log.error({ err: error }, 'request failed unexpectedly');
    else if (problem.status >= 500) request.log.debug({ err: error }, 'request failed');
    note(request, error, problem.code);
    for (const name of headersOfSuccess) reply.removeHeader(name);
    return reply.code(problem.status).headers(problem.headers).send(problem.body);
  });
}
