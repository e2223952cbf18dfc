import type { FastifyReply, FastifyRequest } from 'fastify';
import { type CommitReceipt, type CommitRequest, entityTag } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { actorOf } from '../plugins/authentication.ts';
import { readPrecondition } from '../request/entity-tags.ts';

/** What every commit of a request has in common; `document` is what its preconditions are about (`null`: the state). */
export function commitBase(
  request: FastifyRequest,
  document: string | null,
): Pick<CommitRequest, 'actor' | 'requestId' | 'idempotencyKey' | 'precondition'> {
  const idempotencyKey = readIdempotencyKey(request);
  const precondition = readPrecondition(request, document);
  return {
    actor: actorOf(request),
    requestId: request.id,
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    ...(precondition === undefined ? {} : { precondition }),
  };
}

/** Answers a commit that was made. `location` is where a document is that came into being. */
export function sendReceipt(
  reply: FastifyReply,
  receipt: CommitReceipt,
  { location, tagged }: { location?: string; tagged: boolean },
): FastifyReply {
  const { revision, epoch, eventId, created, replayed } = receipt;
  if (replayed) reply.header('idempotency-replayed', 'true');
  if (tagged) reply.header('etag', entityTag(epoch, revision));
  if (created && location !== undefined) reply.code(201).header('location', location);
  return reply.send({ revision, epoch, event_id: eventId, created });
}

const idempotencyKeyForm = new RegExp(`^[\\x21-\\x7e]{1,${limits.maxIdempotencyKeyBytes}}$`);

function readIdempotencyKey(request: FastifyRequest): string | undefined {
  const key = request.headers['idempotency-key'];
  if (key === undefined || (typeof key === 'string' && idempotencyKeyForm.test(key))) return key;
  throw new LoomError(
    'invalid_parameter',
    `Idempotency-Key must have 1 to ${limits.maxIdempotencyKeyBytes} visible ASCII characters.`,
  );
}
