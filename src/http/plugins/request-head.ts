import type { IncomingMessage } from 'node:http';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { toLoomError } from '../reply/problem.ts';
import type { ReadAddress } from '../request/client-address.ts';

/** Maps each request that the router refused to its error and its URL. */
const refused = new WeakMap<IncomingMessage, { error: LoomError; url: string | undefined }>();

/** Has no route, so that a refused request runs through the hooks of an unknown path. */
const UNROUTED = '/';

/**
 * Converts a URL in absolute form, as a client sends it to a proxy, to its path and query. A server must accept this
 * form (RFC 9112 §3.2.2).
 */
export function toOriginForm({ url = '' }: IncomingMessage): string {
  if (url.startsWith('/')) return url;
  // `OPTIONS *` asks about the server as a whole. No route answers it.
  if (url === '*') return '/*';
  const schemeEnd = /^https?:\/\//i.exec(url)?.[0].length;
  if (schemeEnd === undefined) return url;
  const end = url.slice(schemeEnd).search(/[/?]/);
  if (end < 0) return '/';
  const rest = url.slice(schemeEnd + end);
  return rest.startsWith('/') ? rest : `/${rest}`;
}

/**
 * Answers a request that the router refuses, such as one with a broken percent-encoding. Fastify runs no hooks for it.
 * So this routes the request again, as an unknown path, and the hook below throws the error of the router.
 */
export function answerFrameworkError(error: Error, request: FastifyRequest, reply: FastifyReply): void {
  const { raw } = request;
  refused.set(raw, { error: toLoomError(error), url: raw.url });
  raw.url = UNROUTED;
  request.server.routing(raw, reply.raw);
}

/** Gives each request its address, and each answer the headers that all answers have. */
export function registerRequestHead(app: FastifyInstance, readAddress: ReadAddress): void {
  app.decorateRequest('clientAddress', {
    getter(this: FastifyRequest) {
      return readAddress(this.raw);
    },
  });
  app.addHook('onRequest', (request, reply, done) => {
    const refusal = refused.get(request.raw);
    if (refusal !== undefined) request.raw.url = refusal.url ?? '';
    reply.header('x-request-id', request.id);
    reply.header('cache-control', 'no-store');
    reply.header('x-content-type-options', 'nosniff');
    done();
  });
}

/** Throws for a request whose head is not valid. Register it after the plugin that logs requests. */
export function registerHeadCheck(app: FastifyInstance): void {
  app.addHook('onRequest', (request, reply, done) => {
    const { raw } = request;
    if (raw.method === 'CONNECT') {
      reply.header('allow', 'DELETE, GET, HEAD, PATCH, POST, PUT');
      throw new LoomError('method_not_allowed', 'LOOM is not a proxy, so it does not support CONNECT.');
    }
    const refusal = refused.get(raw);
    if (refusal !== undefined) throw refusal.error;
    assertHead(raw);
    done();
  });
}

/** Returns whether a request announces no body and `registerHeadCheck` finds no fault in its head. */
export function hasPlainHead({ headers, rawHeaders, httpVersion }: IncomingMessage): boolean {
  return (
    httpVersion === '1.1' &&
    rawHeaders.length / 2 <= limits.maxRequestHeaders &&
    headers['transfer-encoding'] === undefined &&
    headers['content-length'] === undefined &&
    headers.expect === undefined &&
    countHosts(rawHeaders) === 1
  );
}

function countHosts(rawHeaders: readonly string[]): number {
  let hosts = 0;
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] ?? '';
    if (name.length === 'host'.length && name.toLowerCase() === 'host') hosts += 1;
  }
  return hosts;
}

function assertHead({ headers, rawHeaders, httpVersion }: IncomingMessage): void {
  if (rawHeaders.length / 2 > limits.maxRequestHeaders) {
    throw new LoomError('headers_too_large', `The request has more than ${limits.maxRequestHeaders} headers.`);
  }
  const hosts = countHosts(rawHeaders);
  if (hosts > 1) throw new LoomError('malformed_request', 'The request has several Host headers. Send only one.');
  // Node decodes only the chunks, so a body with another coding would look like damaged JSON.
  const coding = headers['transfer-encoding']?.trim().toLowerCase();
  if (coding !== undefined && coding !== 'chunked') {
    const detail = 'The header Transfer-Encoding must be chunked. To compress a body, use Content-Encoding: gzip.';
    throw new LoomError('malformed_request', detail);
  }
  if (httpVersion !== '1.1') return;
  if (hosts === 0) throw new LoomError('malformed_request', 'The request has no Host header. Add one.');
  const expected = headers.expect;
  if (expected !== undefined && expected.trim().toLowerCase() !== '100-continue') {
    throw new LoomError('expectation_failed', 'LOOM supports only Expect: 100-continue. Remove the header Expect.');
  }
}
