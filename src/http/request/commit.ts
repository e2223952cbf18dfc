import type { FastifyRequest } from 'fastify';
import type { CommitRequest } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { callerOf } from './actor.ts';
import { readPrecondition } from './entity-tags.ts';

const idempotencyKeyForm = new RegExp(`^[\\x21-\\x7e]{1,${limits.maxIdempotencyKeyBytes}}$`);

/** Reads what all commit requests share. `document` is the target of the preconditions (null: the state). */
export function readCommitBase(
  request: FastifyRequest,
  document: string | null,
): Pick<CommitRequest, 'actor' | 'actorName' | 'requestId' | 'idempotencyKey' | 'precondition'> {
  const { id, headers } = request;
  const idempotencyKey = headers['idempotency-key'];
  if (idempotencyKey !== undefined && (Array.isArray(idempotencyKey) || !idempotencyKeyForm.test(idempotencyKey))) {
    const detail = `Idempotency-Key must have 1 to ${limits.maxIdempotencyKeyBytes} visible ASCII characters.`;
    throw new LoomError('invalid_parameter', detail);
  }
  return { requestId: id, idempotencyKey, precondition: readPrecondition(headers, document), ...callerOf(request) };
}
