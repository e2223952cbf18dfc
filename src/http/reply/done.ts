import type { ServerResponse } from 'node:http';
import type { FastifyReply } from 'fastify';

type Call = () => void;

declare module 'node:http' {
  interface ServerResponse {
    /** What to do when the answer is done. A member costs less than a WeakMap for each request. */
    loomDoneCalls?: Call[];
  }
}

/**
 * Calls back once: when the answer has been sent, or when the connection closes before. Node emits no `close` for an
 * answer that waits behind an earlier one of its connection, but `RequestOrder` begins no such request.
 */
export function onceDone({ raw, request }: FastifyReply, call: Call): void {
  if (raw.destroyed || request.raw.socket.destroyed) {
    call();
    return;
  }
  if (raw.loomDoneCalls !== undefined) {
    raw.loomDoneCalls.push(call);
    return;
  }
  raw.loomDoneCalls = [call];
  raw.on('close', runCalls);
}

/** Runs the calls of the response that has closed. Node emits `close` once. */
function runCalls(this: ServerResponse): void {
  const calls = this.loomDoneCalls ?? [];
  this.loomDoneCalls = [];
  for (const call of calls) call();
}
