/**
 * Reads requests: tokens, headers, query parameters and bodies. Every fault becomes a `LoomError`.
 *
 * May import `domain`, `json`, `errors`, `limits`, and the types of `config`. Must not know a route or the store.
 */
import type { IncomingMessage } from 'node:http';
import type { Readable } from 'node:stream';
import type { FastifyRequest } from 'fastify';
import { LoomError } from '../../errors.ts';
import { bodyTooLarge, RawBody } from './raw-body.ts';
import { gunzip, type TruncatedCode } from './unpacked-body.ts';

interface BodyOptions {
  /** Accepted media types; an error recommends the first. */
  mediaTypes: readonly [string, ...string[]];
  /** Limit of the body, both as sent and as decoded; none by default. */
  maxBytes?: number;
  /** Milliseconds without a byte after which the body times out. */
  idleMs: number;
  /** Code for gzip data that ends too early; `malformed_request` by default. */
  truncatedCode?: TruncatedCode;
}

/**
 * Streams the decoded body of a request. Throws `unsupported_media_type` or `body_too_large` before it reads a byte.
 * The stream fails with `request_timeout`, `body_too_large`, or, for a broken connection or damaged gzip data,
 * `malformed_request`. Destroying it stops reading, but leaves the connection open for the answer.
 */
export function openBody(request: FastifyRequest, options: BodyOptions): Readable {
  assertMediaType(request, options.mediaTypes);
  const encoding = readContentEncoding(request);
  const { maxBytes = Number.POSITIVE_INFINITY } = options;
  if (Number(request.headers['content-length'] ?? 0) > maxBytes) throw bodyTooLarge(maxBytes);
  const raw = new RawBody(request.raw, { idleMs: options.idleMs, maxBytes });
  return encoding === 'gzip' ? gunzip(raw, maxBytes, options.truncatedCode ?? 'malformed_request') : raw;
}

/** Tells whether the headers of a request announce a body. */
export function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
}

/** Calls `onChunk` for each chunk until the stream ends. An exception in it destroys the stream and rejects. */
export function readChunks(stream: Readable, onChunk: (chunk: Buffer) => void): Promise<void> {
  return new Promise((resolve, reject) => {
    stream.on('data', (chunk: Buffer) => {
      try {
        onChunk(chunk);
      } catch (error) {
        stream.destroy();
        reject(error);
      }
    });
    stream.on('error', reject);
    stream.on('end', resolve);
  });
}

function assertMediaType(request: FastifyRequest, mediaTypes: BodyOptions['mediaTypes']): void {
  const header = request.headers['content-type'];
  // A request without a body needs no content-type. The route reports the missing body.
  if (header === undefined && !hasBody(request.raw)) return;
  const [type = '', ...parameters] = (header ?? '').split(';').map((part) => part.trim().toLowerCase());
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

function readContentEncoding(request: FastifyRequest): 'identity' | 'gzip' {
  const encoding = (request.headers['content-encoding'] ?? 'identity').trim().toLowerCase();
  if (encoding === '' || encoding === 'identity') return 'identity';
  if (encoding === 'gzip' || encoding === 'x-gzip') return 'gzip';
  throw new LoomError('unsupported_media_type', 'The header content-encoding must be gzip or absent.');
}
