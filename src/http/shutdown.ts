import type { Server as NetServer } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { FastifyInstance } from 'fastify';
import { limits } from '../limits.ts';
import type { Connections } from './connections.ts';
import type { OpenRequests } from './plugins/open-requests.ts';

export interface CloseOptions {
  /** Time for open requests to finish. Without it, the server waits for ever. */
  timeoutMs?: number;
  /** Called when the time is over: ends the work on open requests, so that they reject. */
  abandon?: () => Promise<void>;
}

interface ServerParts extends CloseOptions {
  connections: Connections;
  /** Listening sockets beside the server's own. */
  further: readonly NetServer[];
  refuse: OpenRequests['refuse'];
}

/**
 * Stops accepting connections, and waits for open requests. After `timeoutMs`, calls `abandon`, answers the requests
 * that still wait, and closes their connections.
 */
export async function closeServer(
  app: FastifyInstance,
  { connections, further, refuse, timeoutMs, abandon = async () => undefined }: ServerParts,
): Promise<void> {
  const startedMs = performance.now();
  const timeLeft = (): number => Math.max(0, (timeoutMs ?? 0) - (performance.now() - startedMs));

  /**
   * Returns the time that the last answers take, so that the process ends on time even if thousands of commits wait.
   */
  function answersMs(totalMs: number): number {
    return Math.min(totalMs / 2, connections.openResponses().length * limits.lastAnswerMs);
  }

  async function answerRest(): Promise<void> {
    // The abandoned work rejects first: only it knows whether a commit was sent.
    await abandon();
    await sleep(limits.abandonedAnswerMs);
    refuse(connections.openResponses());
    await connections.empty(limits.lastAnswersMs);
  }

  await connections.closeWhenIdle(further);
  await connections.empty(timeoutMs === undefined ? undefined : timeLeft() - answersMs(timeoutMs));
  if (!connections.isEmpty()) {
    await Promise.race([answerRest(), connections.empty(timeLeft() + limits.lateAnswersMs)]);
    connections.destroyAll();
  }
  await app.close();
}
