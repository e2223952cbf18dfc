import type { IncomingHttpHeaders } from 'node:http';
import type { FastifyReply } from 'fastify';
import { entityTag, type Precondition } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';

interface EntityTag {
  weak: boolean;
  /** Without quotes. */
  opaque: string;
}

/** Matches one entity tag (RFC 9110 §8.8.3). Node decodes headers as latin-1, so obs-text is \x80-\xff. */
const TAG = /(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"/y;
const SEPARATOR = /[ \t]*,[ \t,]*/y;

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

function readEntityTags(
  value: string | undefined,
  header: string,
  isUsed: (tag: EntityTag) => boolean,
): Precondition['ifMatch'] {
  const text = value?.replace(/^[ \t,]+|[ \t,]+$/g, '');
  if (text === undefined || text === '*') return text;
  const tags: EntityTag[] = [];
  for (let position = 0; ; ) {
    TAG.lastIndex = position;
    const tag = TAG.exec(text);
    if (tag === null) throw malformed(header);
    tags.push({ weak: tag[1] !== undefined, opaque: tag[2] ?? '' });
    if (TAG.lastIndex === text.length) return tags.filter(isUsed).map(({ opaque }) => opaque);
    SEPARATOR.lastIndex = TAG.lastIndex;
    if (!SEPARATOR.test(text)) throw malformed(header);
    position = SEPARATOR.lastIndex;
  }
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
