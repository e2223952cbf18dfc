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
  /** Lets answers pass again. */
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
        client.destroy();
        upstream.destroy();
      });
    }
    client.on('data', (bytes) => {
      if (link.silent === 'both') return;
      upstream.write(bytes);
      if (bytesPerSecond === Number.POSITIVE_INFINITY) return;
      client.pause();
      setTimeout(() => client.resume(), (1_000 * bytes.length) / bytesPerSecond);
    });
    upstream.on('data', (bytes) => {
      if (link.silent !== 'none') return;
      if (!losing) {
        client.write(bytes);
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
    heal: () => {
      losing = false;
    },
    lost: () => lost,
    close: async () => {
      for (const socket of sockets) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}
