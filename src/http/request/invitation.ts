import type { IncomingMessage, ServerResponse } from 'node:http';

/** Maps each request with `Expect: 100-continue` to its response, until the node invites the body. */
const uninvited = new WeakMap<IncomingMessage, ServerResponse>();

/** Records that a client waits for `100 Continue` before it sends the body (RFC 9110 §10.1.1). */
export function awaitInvitation(request: IncomingMessage, response: ServerResponse): void {
  uninvited.set(request, response);
}

/** Invites the body, if the client waits for that. Call it when the route begins to read, after all other checks. */
export function inviteBody(request: IncomingMessage): void {
  uninvited.get(request)?.writeContinue();
  uninvited.delete(request);
}

/** Returns whether the client still waits with its body, which may never come after a final answer. */
export function isUninvited(request: IncomingMessage): boolean {
  return uninvited.has(request);
}
