import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { limits } from '../../limits.ts';

/** Matches visible ASCII without quotes and backslash, which log lines, headers and entries contain unescaped. */
const acceptable = new RegExp(`^[!#-&(-\\[\\]-~]{1,${limits.maxRequestIdBytes}}$`);

const ids = new WeakMap<IncomingMessage, string>();

/** Returns the client's `x-request-id` if it is acceptable, otherwise a new id: the same one for each call. */
export function requestIdOf(request: IncomingMessage): string {
  const known = ids.get(request);
  if (known !== undefined) return known;
  const given = request.headers['x-request-id'];
  const id = typeof given === 'string' && acceptable.test(given) ? given : randomUUID();
  ids.set(request, id);
  return id;
}
