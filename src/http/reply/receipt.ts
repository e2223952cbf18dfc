import type { FastifyReply } from 'fastify';
import { type CommitReceipt, entityTag, type Receipt } from '../../domain/commit.ts';

/** Answers a commit. `location` is the path of the document, sent when the commit created it. */
export function sendReceipt(
  reply: FastifyReply,
  receipt: CommitReceipt,
  { location, tagged }: { location?: string; tagged: boolean },
): FastifyReply {
  const { revision, epoch, eventId, created, replayed } = receipt;
  if (replayed) reply.header('idempotency-replayed', 'true');
  if (tagged) reply.header('etag', entityTag(epoch, revision));
  if (created && location !== undefined) reply.code(201).header('location', location);
  return reply.send({ revision, epoch, event_id: eventId, created } satisfies Receipt);
}
