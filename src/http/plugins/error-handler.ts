import type { FastifyInstance } from 'fastify';
import { toProblem } from '../reply/problem.ts';

/** Lists headers of a successful answer that a route may have set before it failed. */
const headersOfSuccess = ['etag', 'last-modified', 'location', 'content-disposition', 'content-encoding', 'vary'];

/** Answers every error with a problem body, and logs unexpected errors in full under the request id. */
export function registerErrorHandler(app: FastifyInstance): void {
  app.setErrorHandler((error, request, reply) => {
    const problem = toProblem(error, request.id);
    if (problem.code === 'internal') request.log.error({ err: error }, 'request failed unexpectedly');
    else if (problem.status >= 500) request.log.debug({ err: error }, 'request failed');
    for (const name of headersOfSuccess) reply.removeHeader(name);
    return reply.code(problem.status).headers(problem.headers).send(problem.body);
  });
}
