import type { IncomingMessage } from 'node:http';
import type { FastifyRequest } from 'fastify';
import { actorNameFault, type Caller } from '../../domain/actor.ts';
import { LoomError } from '../../errors.ts';

const HEADER = 'x-loom-actor';

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Returns the name in `x-loom-actor`, on whose behalf an application sends a request; undefined without the header.
 * Throws `invalid_parameter` for a name that an audit entry cannot show as it is, for one that contains the `token` of
 * the request, and for one that `isOtherToken` knows.
 */
export function readActorName(
  { headers, rawHeaders }: IncomingMessage,
  token: string,
  isOtherToken: (name: string) => boolean,
): string | undefined {
  const given = headers[HEADER];
  if (given === undefined) return undefined;
  const count = rawHeaders.filter((text, index) => index % 2 === 0 && text.toLowerCase() === HEADER).length;
  if (count > 1) throw invalid('appears more than once. Send it once.');
  const name = decode(String(given));
  if (name === undefined) throw invalid('is not valid UTF-8.');
  const fault = actorNameFault(name);
  if (fault !== undefined) throw invalid(`${fault}.`);
  // Nobody can remove it from the audit trail later.
  if (name.includes(token)) throw invalid('contains the token of the request. Send the name of a user.');
  if (isOtherToken(name)) throw invalid('is a token of this node. Send the name of a user.');
  return name;
}

/** Returns who requests a change, for its audit entries. */
export function callerOf({ actor, actorName }: FastifyRequest): Caller {
  if (actor === undefined) throw new Error('a route that changes something needs a token');
  return { actor, actorName };
}

/** Decodes the bytes of a header, of which Node makes one character each. */
function decode(text: string): string | undefined {
  try {
    return utf8.decode(Buffer.from(text, 'latin1'));
  } catch {
    return undefined;
  }
}

function invalid(fault: string): LoomError {
  return new LoomError('invalid_parameter', `The header ${HEADER} ${fault}`);
}
