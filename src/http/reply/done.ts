import type { Socket } from 'node:net';
import type { FastifyReply } from 'fastify';

type Call = () => void;

/** Holds what to do when an answer is done, by reply, so that each reply has one listener. */
const callsOfReply = new WeakMap<FastifyReply['raw'], Set<Call>>();
/** Holds what to do when a connection closes, so that one listener serves all of its requests. */
const callsOfSocket = new WeakMap<Socket, Set<Call>>();

/**
 * Calls back once: when the answer has been sent, or when the connection closes before. Node emits no `close` for an
 * answer that waits behind an earlier one of its connection, so this watches the connection, too.
 */
export function onceDone({ raw, request }: FastifyReply, call: Call): void {
  const { socket } = request.raw;
  if (raw.destroyed || socket.destroyed) {
    call();
    return;
  }
  const calls = callsOfReply.get(raw) ?? watch(raw, socket);
  calls.add(call);
}

function watch(raw: FastifyReply['raw'], socket: Socket): Set<Call> {
  const calls = new Set<Call>();
  callsOfReply.set(raw, calls);
  const ofSocket = callsOfSocket.get(socket) ?? watchSocket(socket);
  const done = (): void => {
    ofSocket.delete(done);
    for (const call of calls) call();
    calls.clear();
  };
  ofSocket.add(done);
  raw.once('close', done);
  return calls;
}

function watchSocket(socket: Socket): Set<Call> {
  const calls = new Set<Call>();
  callsOfSocket.set(socket, calls);
  socket.once('close', () => {
    for (const call of calls) call();
  });
  return calls;
}
