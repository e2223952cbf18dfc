import type { FastifyReply } from 'fastify';

type Call = () => void;

/** Holds what to do when an answer is done, by reply, so that each reply has one listener. */
const callsOfReply = new WeakMap<FastifyReply['raw'], Set<Call>>();

/**
 * Calls back once: when the answer has been sent, or when the connection closes before. Node emits no `close` for an
 * answer that waits behind an earlier one of its connection, but `RequestOrder` begins no such request.
 */
export function onceDone({ raw, request }: FastifyReply, call: Call): void {
  if (raw.destroyed || request.raw.socket.destroyed) {
    call();
    return;
  }
  const calls = callsOfReply.get(raw) ?? watch(raw);
  calls.add(call);
}

function watch(raw: FastifyReply['raw']): Set<Call> {
  const calls = new Set<Call>();
  callsOfReply.set(raw, calls);
  raw.once('close', () => {
    for (const call of calls) call();
  });
  return calls;
}
