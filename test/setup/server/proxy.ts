import { connect, createServer, type Socket } from 'node:net';
import { throughPooler } from '../roles/pooled.ts';

export interface TestProxy {
  /** URL of the database through the proxy. */
  url: string;
  /** Drops the server's next answers and closes the client's connection instead. */
  loseAnswers(): void;
  /**
   * Makes the open connections silent, as a firewall does that has forgotten them: no byte passes in this direction,
   * and nobody is told. New connections pass. Returns the number of silent ones.
   */
  silence(direction?: 'both' | 'answers'): number;
  /** Passes statements on at this rate, as a thin line does. */
  slowDown(bytesPerSecond: number): void;
  /** Leads new connections to another server, as an address does that moves. Open connections stay where they are. */
  moveTo(url: string): void;
  /** Holds every byte of open and new connections, as a cut line does. Nobody is told. `heal` passes them on. */
  hold(): void;
  /** Delays every byte by this time in each direction. */
  delay(ms: number): void;
  /** Resets all open connections. */
  reset(): void;
  /** Ends each fault. A silent connection stays silent. */
  heal(): void;
  /** Returns the number of connections whose answer was dropped. */
  lost(): number;
  close(): Promise<void>;
}

/** Starts a TCP proxy in front of PostgreSQL. It can drop the answer to a statement that the server has executed. */
export async function startProxy(databaseUrl: string): Promise<TestProxy> {
  let target = new URL(throughPooler(databaseUrl));
  const sockets = new Set<Socket>();
  const links = new Set<{ silent: 'none' | 'both' | 'answers' }>();
  const line = createLine();
  let losing = false;
  let lost = 0;
  let bytesPerSecond = Number.POSITIVE_INFINITY;
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    const link: { silent: 'none' | 'both' | 'answers' } = { silent: 'none' };
    links.add(link);
    client.on('close', () => links.delete(link));
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        // A silent link passes not even the end of a connection on.
        if (link.silent !== 'none') return;
        line.pass(() => {
          client.destroy();
          upstream.destroy();
        });
      });
    }
    client.on('data', (bytes) => {
      if (link.silent === 'both') return;
      line.pass(() => upstream.write(bytes));
      if (bytesPerSecond === Number.POSITIVE_INFINITY) return;
      client.pause();
      setTimeout(() => client.resume(), (1_000 * bytes.length) / bytesPerSecond);
    });
    upstream.on('data', (bytes) => {
      if (link.silent !== 'none') return;
      if (!losing) {
        line.pass(() => client.write(bytes));
        return;
      }
      lost += 1;
      client.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  const url = new URL(databaseUrl);
  url.hostname = '127.0.0.1';
  url.port = String(typeof address === 'object' ? address?.port : '');
  return {
    url: url.href,
    loseAnswers: () => {
      losing = true;
    },
    silence: (direction = 'both') => {
      for (const link of links) link.silent = direction;
      return links.size;
    },
    slowDown: (rate) => {
      bytesPerSecond = rate;
    },
    moveTo: (other) => {
      target = new URL(throughPooler(other));
    },
    hold: line.hold,
    delay: line.delay,
    reset: () => {
      for (const socket of sockets) socket.resetAndDestroy();
    },
    heal: () => {
      losing = false;
      line.heal();
    },
    lost: () => lost,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** Passes bytes and ends of connections on in their order: at once, later, or after `heal`. */
function createLine() {
  const waiting: { onward: () => void; atMs: number }[] = [];
  let holding = false;
  let delayMs = 0;
  const drain = (nowMs = performance.now()): void => {
    while (!holding && waiting[0] !== undefined && waiting[0].atMs <= nowMs) waiting.shift()?.onward();
  };
  return {
    pass: (onward: () => void): void => {
      if (!holding && delayMs === 0 && waiting.length === 0) {
        onward();
        return;
      }
      waiting.push({ onward, atMs: performance.now() + delayMs });
      setTimeout(() => drain(), delayMs + 1);
    },
    hold: (): void => {
      holding = true;
    },
    delay: (ms: number): void => {
      delayMs = ms;
    },
    heal: (): void => {
      holding = false;
      delayMs = 0;
      drain(Number.POSITIVE_INFINITY);
    },
  };
}
