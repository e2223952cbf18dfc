import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { limits } from '../../limits.ts';

/** Matches visible ASCII without quotes and backslash, which log lines, headers and entries contain unescaped. */
const acceptable = new RegExp(`^[!#-&(-\\[\\]-~]{1,${limits.maxRequestIdBytes}}$`);

declare module 'node:http' {
  interface IncomingMessage {
    /** Set by `requestIdOf`. A WeakMap would cost more for each request, mostly in the collection of garbage. */
    loomRequestId?: string;
  }
}

/** Returns the client's `x-request-id` if it is acceptable, otherwise a new id: the same one for each call. */
export function requestIdOf(request: IncomingMessage): string {
  const known = request.loomRequestId;
  if (known !== undefined) return known;
  const given = request.headers['x-request-id'];
  const id = typeof given === 'string' && acceptable.test(given) ? given : randomUUID();
  request.loomRequestId = id;
  return id;
}
