import { type ErrorCode, isLoomError, LoomError } from '../../errors.ts';

/** An RFC 9457 problem: a status, a body, and the headers that belong to it. */
export interface Problem {
  status: number;
  code: ErrorCode;
  headers: Record<string, string>;
  body: string;
}

const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

/**
 * What the client gets to see of an error. Of what was not expected it sees nothing but the request id, because such a
 * message may hold anything.
 */
export function toProblem(thrown: unknown, requestId: string): Problem {
  const error = toLoomError(thrown);
  const detail = error.code === 'internal' ? INTERNAL_DETAIL : error.message;
  return {
    status: error.status,
    code: error.code,
    headers: problemHeaders(error),
    body: JSON.stringify({
      type: `urn:loom:problem:${error.code}`,
      title: error.title,
      status: error.status,
      code: error.code,
      detail,
      ...error.place,
      ...(error.since === undefined ? {} : { since: error.since }),
      request_id: requestId,
    }),
  };
}

const INTERNAL_DETAIL = 'Something failed that should not. The log of the node tells more under this request_id.';

function problemHeaders(error: LoomError): Record<string, string> {
  const headers: Record<string, string> = { 'content-type': PROBLEM_TYPE };
  if (error.retryAfterSeconds !== undefined) headers['retry-after'] = String(Math.ceil(error.retryAfterSeconds));
  if (error.currentEtag) headers.etag = error.currentEtag;
  if (error.code === 'unauthenticated') headers['www-authenticate'] = 'Bearer realm="loom"';
  return headers;
}

/** Fastify's and Node's own errors by their codes; the rest by status. */
export function toLoomError(thrown: unknown): LoomError {
  if (isLoomError(thrown)) return thrown;
  const code = memberOf(thrown, 'code');
  const status = memberOf(thrown, 'statusCode');
  if (code === 'FST_ERR_BAD_URL') {
    return new LoomError(
      'malformed_request',
      'The path is not valid: a % must be followed by two hex digits, of UTF-8.',
    );
  }
  if (code === 'FST_ERR_MAX_PARAM_LENGTH') {
    return new LoomError('invalid_document_name', 'The document name in the path is too long.');
  }
  if (status === 404) return new LoomError('not_found', 'There is nothing at this path.');
  if (status === 413) return new LoomError('body_too_large', 'The body is too large.');
  if (status === 415) return new LoomError('unsupported_media_type', 'The content-type header is not a media type.');
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return new LoomError('malformed_request', 'The request cannot be understood.');
  }
  return new LoomError('internal', INTERNAL_DETAIL, { cause: thrown });
}

function memberOf(thrown: unknown, name: string): unknown {
  return typeof thrown === 'object' && thrown !== null ? Reflect.get(thrown, name) : undefined;
}
