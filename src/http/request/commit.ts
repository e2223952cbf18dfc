import type { IncomingMessage } from 'node:http';
import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { CommitRequest } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { callerOf } from './actor.ts';
import { readPrecondition } from './entity-tags.ts';

const HEADER = 'idempotency-key';

const idempotencyKeyForm = new RegExp(`^[\\x21-\\x7e]{1,${limits.maxIdempotencyKeyBytes}}$`);

export const idempotencyKeySchema = z.string().regex(idempotencyKeyForm);

/** Reads what all commit requests share. `document` is the target of the preconditions (null: the state). */
export function readCommitBase(
  request: FastifyRequest,
  document: string | null,
): Pick<CommitRequest, 'actor' | 'actorName' | 'requestId' | 'idempotencyKey' | 'precondition'> {
  const { id, headers, raw } = request;
  const idempotencyKey = readIdempotencyKey(raw);
  return { requestId: id, idempotencyKey, precondition: readPrecondition(headers, document), ...callerOf(request) };
}

function readIdempotencyKey({ headers, rawHeaders }: IncomingMessage): string | undefined {
  const key = headers[HEADER];
  // Node joins the values of a repeated header by a comma and a space, so that the form refuses them, too.
  if (key === undefined || (typeof key === 'string' && idempotencyKeyForm.test(key))) return key;
  const count = rawHeaders.filter((text, index) => index % 2 === 0 && text.toLowerCase() === HEADER).length;
  const fault =
    count > 1
      ? 'appears more than once. Send it once.'
      : `must have 1 to ${limits.maxIdempotencyKeyBytes} visible ASCII characters.`;
  throw new LoomError('invalid_parameter', `The header Idempotency-Key ${fault}`);
}
