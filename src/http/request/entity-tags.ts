import type { FastifyReply, FastifyRequest } from 'fastify';
import { entityTag, type Precondition } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';

interface EntityTag {
  weak: boolean;
  /** Without quotes. */
  opaque: string;
}

/** RFC 9110 §8.8.3: `entity-tag = [ "W/" ] DQUOTE *etagc DQUOTE`. Header bytes come as latin-1, so obs-text is \x80-\xff. */
const TAG = /(W\/)?"([\x21\x23-\x7e\x80-\xff]*)"/y;
const SEPARATOR = /[ \t]*,[ \t,]*/y;

/** Parses `If-Match` or `If-None-Match`; throws `invalid_parameter` for what the grammar does not allow. */
export function parseEntityTags(value: string, header: string): '*' | EntityTag[] {
  const text = value.replace(/^[ \t,]+|[ \t,]+$/g, '');
  if (text === '*') return '*';
  const tags: EntityTag[] = [];
  for (let position = 0; ; ) {
    TAG.lastIndex = position;
    const tag = TAG.exec(text);
    if (tag === null) throw malformed(header);
    tags.push({ weak: tag[1] !== undefined, opaque: tag[2] ?? '' });
    if (TAG.lastIndex === text.length) return tags;
    SEPARATOR.lastIndex = TAG.lastIndex;
    if (!SEPARATOR.test(text)) throw malformed(header);
    position = SEPARATOR.lastIndex;
  }
}

/**
 * The request's preconditions on `document` (`null`: the state), or `undefined` when it has none. `If-Match` compares
 * strongly, so weak tags are left out of it; `If-None-Match` compares weakly (RFC 9110 §8.8.3.2).
 */
export function readPrecondition(request: FastifyRequest, document: string | null): Precondition | undefined {
  const match = request.headers['if-match'];
  const noneMatch = request.headers['if-none-match'];
  if (match === undefined && noneMatch === undefined) return undefined;
  const precondition: Precondition = { document };
  if (match !== undefined) precondition.ifMatch = opaqueTags(parseEntityTags(match, 'If-Match'), false);
  if (noneMatch !== undefined) precondition.ifNoneMatch = opaqueTags(parseEntityTags(noneMatch, 'If-None-Match'), true);
  return precondition;
}

/**
 * Evaluates a read's preconditions against what there is, and sets the ETag. Answers true when the client has it already:
 * the caller then answers 304. Throws `precondition_failed`. In the order of RFC 9110 §13.2.2.
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
  if (ifMatch !== undefined && !holds(ifMatch, etag)) {
    throw new LoomError('precondition_failed', `The entity tag is ${etag} now.`, {
      currentEtag: etag,
      ...(document === null ? {} : { document }),
    });
  }
  return ifNoneMatch !== undefined && holds(ifNoneMatch, etag);
}

function holds(tags: '*' | string[], etag: string): boolean {
  return tags === '*' || tags.includes(etag.slice(1, -1));
}

function opaqueTags(tags: '*' | EntityTag[], weakToo: boolean): '*' | string[] {
  return tags === '*' ? tags : tags.filter((tag) => weakToo || !tag.weak).map((tag) => tag.opaque);
}

function malformed(header: string): LoomError {
  return new LoomError(
    'invalid_parameter',
    `${header} must be * or a list of entity tags in double quotes, such as "k3v9.17" (with curl: -H '${header.toLowerCase()}: "k3v9.17"').`,
  );
}
