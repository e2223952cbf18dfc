/**
 * Writes answers: JSON, problems, receipts and streams.
 *
 * May import `domain`, `errors`, `json` and `limits`. Must not know a route, a token or the configuration.
 */
import { z } from 'zod';
import { seq, time } from '../../domain/forms.ts';
import { type ErrorCode, errorCodes, isLoomError, LoomError } from '../../errors.ts';
import { printable } from '../../json/printable.ts';
import { toJsonLine } from './json.ts';

export const problemSchema = z.object({
  type: z.string().describe('"urn:loom:problem:" and the code'),
  title: z.string().describe('For people. Its wording can change'),
  status: z.int(),
  code: z
    .enum(errorCodes().map(({ code }): ErrorCode => code))
    .describe('For programs. A code never changes its meaning'),
  detail: z.string().describe('For people. Its wording can change'),
  pointer: z.string().exactOptional().describe('JSON pointer into the document or body'),
  offset: z.int().min(0).exactOptional().describe('Byte offset in the decompressed body'),
  document: z.string().exactOptional().describe('Name of the document'),
  seq: seq.exactOptional().describe('Seq of the audit entry'),
  since: time.optional().describe('For restore_in_progress: when the other operation began'),
  request_id: z.string(),
});

const PROBLEM_TYPE = 'application/problem+json; charset=utf-8';

const INTERNAL_DETAIL = 'The node failed unexpectedly. Find this request_id in its log.';

/**
 * Converts an error into an RFC 9457 problem. An internal error shows only its request id, because its message may
 * contain a secret. A detail can quote a text of the client, whose control characters it shows escaped.
 */
export function toProblem(thrown: unknown, requestId: string) {
  const error = toLoomError(thrown);
  const detail = error.code === 'internal' ? INTERNAL_DETAIL : printable(error.message);
  return {
    status: error.status,
    code: error.code,
    headers: problemHeaders(error),
    body: toJsonLine({
      type: `urn:loom:problem:${error.code}`,
      title: error.title,
      status: error.status,
      code: error.code,
      detail,
      ...error.place,
      since: error.since,
      request_id: requestId,
    } satisfies z.output<typeof problemSchema>),
  };
}

function problemHeaders(error: LoomError): Record<string, string> {
  const headers: Record<string, string> = { 'content-type': PROBLEM_TYPE };
  if (error.retryAfterSeconds !== undefined) headers['retry-after'] = String(Math.ceil(error.retryAfterSeconds));
  if (error.currentEtag) headers.etag = error.currentEtag;
  if (error.code === 'unauthenticated') headers['www-authenticate'] = 'Bearer realm="loom"';
  return headers;
}

/** Converts Fastify's and Node's own errors by their code, otherwise by their status. */
export function toLoomError(thrown: unknown): LoomError {
  if (isLoomError(thrown)) return thrown;
  const { code, statusCode: status }: { code?: unknown; statusCode?: unknown } = Object(thrown);
  if (code === 'FST_ERR_BAD_URL') {
    return new LoomError(
      'malformed_request',
      'The path has a broken percent-encoding: each % needs two hex digits, and the decoded bytes must be UTF-8.',
    );
  }
  if (status === 404) return new LoomError('not_found', 'No route has this path.');
  if (status === 413) return new LoomError('body_too_large', 'The body is too large.');
  if (status === 415) return new LoomError('unsupported_media_type', 'The header content-type is not a media type.');
  if (typeof status === 'number' && status >= 400 && status < 500) {
    return new LoomError('malformed_request', 'The request is not valid.');
  }
  return new LoomError('internal', INTERNAL_DETAIL, { cause: thrown });
}
