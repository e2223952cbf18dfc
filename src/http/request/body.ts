/**
 * Reads requests: tokens, headers, query parameters and bodies. Every fault becomes a `LoomError`.
 *
 * May import `domain`, `json`, `errors`, `limits`, `pace.ts`, and the types of `config`. Must not know a route or the
 * store.
 */
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { inviteBody } from './invitation.ts';
import { bodyTooLarge, gunzip, openRawBody, type TruncatedCode } from './raw-body.ts';

/** Lists accepted media types; an error recommends the first. */
export type MediaTypes = readonly [string, ...string[]];
export const JSON_TYPES: MediaTypes = ['application/json'];
export const PATCH_TYPES: MediaTypes = ['application/merge-patch+json', 'application/json'];

interface BodyOptions {
  mediaTypes: MediaTypes;
  /** Maximum size of the body, both as sent and as decoded; none by default. */
  maxBytes?: number;
  /** Milliseconds over which the client must send at the minimum rate. */
  paceWindowMs: number;
  /** Code for gzip data that ends too early; `malformed_request` by default. */
  truncatedCode?: TruncatedCode;
}

/**
 * Streams the decoded body of a request. The request's share of memory can be taken back until the body has ended,
 * which fails the stream with `node_busy`. Throws `unsupported_media_type` or `body_too_large` before it reads a byte.
 * The stream fails with `request_timeout`, `body_too_large`, or, for a broken connection or damaged gzip data,
 * `malformed_request`. Destroying it stops reading, but leaves the connection open for the answer.
 */
export function openBody(request: FastifyRequest, options: BodyOptions): Readable {
  assertMediaType(request, options.mediaTypes);
  const isGzip = readsGzip(request);
  const { maxBytes = Number.POSITIVE_INFINITY, paceWindowMs, truncatedCode = 'malformed_request' } = options;
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw bodyTooLarge(maxBytes);
  const { body: share } = request.memory;
  share.resize(openBodyBytes(request, isGzip));
  inviteBody(request.raw);
  const raw = openRawBody(request.raw, { maxBytes, paceWindowMs, onBytes: share.countMoved });
  const body = isGzip ? gunzip(raw, maxBytes, truncatedCode) : raw;
  share.makeReclaimable((error) => body.destroy(error));
  body.once('end', share.makeFixed);
  return body;
}

/** Returns the memory that an open body uses for its buffers. */
export function openBodyBytes({ headers }: FastifyRequest, isGzip = readsEncodedBody(headers)): number {
  if (isGzip) return 2 * limits.openBodyBytes;
  return Math.min(limits.openBodyBytes, 2 * Number(headers['content-length'] ?? Number.POSITIVE_INFINITY));
}

function readsEncodedBody(headers: FastifyRequest['headers']): boolean {
  return headers['content-encoding'] !== undefined;
}

/** Returns whether the headers of a request announce a body. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/**
 * Calls `onChunk` for each chunk until the stream ends. If it throws, destroys the stream and rejects. Removes its
 * listeners in any case: the connection, which may stay open, still refers to the stream and thus to `onChunk`.
 */
export function readChunks(stream: Readable, onChunk: (chunk: Buffer) => void): Promise<void> {
  // Without a listener, a socket that breaks later would raise an unhandled error.
  stream.on('error', ignore);
  return new Promise<void>((resolve, reject) => {
    const settle = (): void => {
      stream.off('data', onData).off('end', onEnd).off('error', onError);
    };
    const onData = (chunk: Buffer): void => {
      try {
        onChunk(chunk);
      } catch (error) {
        stream.destroy();
        onError(error);
      }
    };
    const onEnd = (): void => {
      settle();
      resolve();
    };
    const onError = (error: unknown): void => {
      settle();
      reject(error);
    };
    stream.on('data', onData).on('end', onEnd).on('error', onError);
  });
}

function ignore(): void {
  // The error has been reported already.
}

function assertMediaType(request: FastifyRequest, mediaTypes: MediaTypes): void {
  const header = request.headers['content-type'];
  // A request without a body needs no content-type. The route reports the missing body.
  if (header === undefined && !hasBody(request.raw)) return;
  const [type = '', ...parameters] = (header ?? '')
    .split(';', limits.maxHeaderElements)
    .map((part) => part.trim().toLowerCase());
  if (!mediaTypes.includes(type)) {
    throw new LoomError(
      'unsupported_media_type',
      `The header content-type must be ${mediaTypes.join(' or ')} (with curl: -H 'content-type: ${mediaTypes[0]}').`,
    );
  }
  const charset = parameters.find((parameter) => parameter.startsWith('charset='))?.slice('charset='.length);
  if (charset !== undefined && !['utf-8', 'utf8', '"utf-8"'].includes(charset)) {
    throw new LoomError('unsupported_media_type', 'JSON is always UTF-8. Leave the charset out of content-type.');
  }
}

/** Returns whether the body is gzip. Throws `unsupported_media_type` for any other encoding. */
function readsGzip(request: FastifyRequest): boolean {
  const encoding = (request.headers['content-encoding'] ?? '').trim().toLowerCase();
  if (encoding === '' || encoding === 'identity') return false;
  if (encoding === 'gzip' || encoding === 'x-gzip') return true;
  throw new LoomError('unsupported_media_type', 'The header content-encoding must be gzip or absent.');
}
