import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { createPace, fairWaitMs, type Pace, SAMPLES_PER_WINDOW } from './pace.ts';

export interface PaceOptions {
  /** Milliseconds over which a client must take its answer at the minimum rate. */
  paceWindowMs: number;
  /** Called before a connection is reset because its client takes an answer too slowly. */
  onSlowClient(address: string | undefined): void;
}

/** Holds how fast a client takes its answers. */
export interface Paced {
  pace: Pace;
  takenBytes: number;
  /** Whether bytes were waiting for the client at the last sample. */
  wasSlow: boolean;
}

export function createPaced(paceWindowMs: number): Paced {
  return { pace: createPace(paceWindowMs), takenBytes: 0, wasSlow: false };
}

/** Resets, until the server closes, each connection whose client takes an answer too slowly. */
export function watchPace(
  server: Server,
  clients: ReadonlyMap<Socket, Paced>,
  { paceWindowMs, onSlowClient }: PaceOptions,
): void {
  const sampleMs = paceWindowMs / SAMPLES_PER_WINDOW;
  let sampledMs = performance.now();
  const timer = setInterval(() => {
    const waitedMs = fairWaitMs(performance.now() - sampledMs, sampleMs);
    sampledMs = performance.now();
    for (const [socket, client] of clients) {
      if (!takesTooSlowly(socket, client, waitedMs)) continue;
      onSlowClient(socket.remoteAddress);
      // A reset also discards the bytes in the kernel's buffer, which the client may never take.
      socket.resetAndDestroy();
    }
  }, sampleMs).unref();
  server.once('close', () => clearInterval(timer));
}

/** Samples how many bytes a client has taken. Time counts against it only while bytes wait for it. */
function takesTooSlowly(socket: Socket, client: Paced, waitedMs: number): boolean {
  const takenBytes = socket.bytesWritten - socket.writableLength;
  const movedBytes = takenBytes - client.takenBytes;
  const isSlow = socket.writableLength > 0;
  const waited = isSlow && client.wasSlow ? waitedMs : 0;
  client.takenBytes = takenBytes;
  client.wasSlow = isSlow;
  return (waited > 0 || movedBytes > 0) && client.pace.isTooSlow(waited, movedBytes);
}
