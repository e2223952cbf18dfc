import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyReply } from 'fastify';
import { entityTag, type Precondition } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';

interface EntityTag {
  weak: boolean;
  /** Without quotes. */
  opaque: string;
}

/** Matches the text between the quotes of an entity tag (RFC 9110 §8.8.3). Node decodes obs-text as \x80-\xff. */
const OPAQUE = /^[\x21\x23-\x7e\x80-\xff]*$/;

/**
 * Reads the preconditions on `document` (null: the state). Returns undefined if the request has none. `If-Match`
 * compares strongly, so its list leaves out weak tags; `If-None-Match` compares weakly (RFC 9110 §8.8.3.2). Throws
 * `invalid_parameter` for a malformed list.
 */
export function readPrecondition(headers: IncomingHttpHeaders, document: string | null): Precondition | undefined {
  const match = headers['if-match'];
  const noneMatch = headers['if-none-match'];
  if (match === undefined && noneMatch === undefined) return undefined;
  return {
    document,
    ifMatch: readEntityTags(match, 'If-Match', (tag) => !tag.weak),
    ifNoneMatch: readEntityTags(noneMatch, 'If-None-Match', () => true),
  };
}

/**
 * Sets the ETag of a read and evaluates its preconditions, in the order of RFC 9110 §13.2.2. Returns true when the
 * client already has the current content; the caller then answers 304. Throws `precondition_failed`.
 */
export function isNotModified(
  reply: FastifyReply,
  precondition: Precondition | undefined,
  { epoch, revision }: { epoch: string; revision: number },
): boolean {
  const etag = entityTag(epoch, revision);
  reply.header('etag', etag);
  if (precondition === undefined) return false;
  const { ifMatch, ifNoneMatch, document } = precondition;
  if (ifMatch !== undefined && !includes(ifMatch, etag)) {
    throw new LoomError('precondition_failed', `The current entity tag is ${etag}.`, {
      currentEtag: etag,
      ...(document === null ? {} : { document }),
    });
  }
  return ifNoneMatch !== undefined && includes(ifNoneMatch, etag);
}

/**
 * Returns whether `If-None-Match` lists the tag, so that the caller answers 304. Throws `invalid_parameter` for a
 * malformed list.
 */
export function hasCurrentContent(headers: IncomingHttpHeaders, etag: string): boolean {
  const tags = readEntityTags(headers['if-none-match'], 'If-None-Match', () => true);
  return tags !== undefined && includes(tags, etag);
}

/** Reads a list of entity tags from left to right, in one pass. A list may have empty elements (RFC 9110 §5.6.1). */
function readEntityTags(
  value: string | undefined,
  header: string,
  isUsed: (tag: EntityTag) => boolean,
): Precondition['ifMatch'] {
  if (value === undefined) return undefined;
  let position = skipSeparators(value, 0).end;
  if (value[position] === '*' && skipSeparators(value, position + 1).end === value.length) return '*';
  const tags: EntityTag[] = [];
  do {
    const weak = value.startsWith('W/', position);
    const start = position + (weak ? 3 : 1);
    const close = value.indexOf('"', start);
    if (value[start - 1] !== '"' || close < 0) throw malformed(header);
    const opaque = value.slice(start, close);
    if (!OPAQUE.test(opaque)) throw malformed(header);
    tags.push({ weak, opaque });
    const { end, commas } = skipSeparators(value, close + 1);
    if (commas === 0 && end < value.length) throw malformed(header);
    position = end;
  } while (position < value.length);
  return tags.filter(isUsed).map((tag) => tag.opaque);
}

/** Returns the end of the blanks and commas from `start`, and the number of commas among them. */
function skipSeparators(value: string, start: number): { end: number; commas: number } {
  let commas = 0;
  let end = start;
  for (; end < value.length; end += 1) {
    if (value[end] === ',') commas += 1;
    else if (value[end] !== ' ' && value[end] !== '\t') break;
  }
  return { end, commas };
}

function includes(tags: '*' | string[], etag: string): boolean {
  return tags === '*' || tags.includes(etag.slice(1, -1));
}

function malformed(header: string): LoomError {
  return new LoomError(
    'invalid_parameter',
    `${header} must be * or a list of entity tags in double quotes, such as "k3v9.17" (with curl: -H '${header.toLowerCase()}: "k3v9.17"').`,
  );
}
