import { connect, createServer, type Socket } from 'node:net';

export interface TestProxy {
  /** The database's URL by way of the proxy. */
  url: string;
  /** From now on the server's answers are thrown away, and the client's connection with them. */
  loseAnswers(): void;
  /** Answers pass again. */
  heal(): void;
  /** Connections whose answer was lost. */
  lost(): number;
  close(): Promise<void>;
}

/** A TCP proxy before PostgreSQL, for what no server does on request: to carry out a statement and lose the answer. */
export async function startProxy(databaseUrl: string): Promise<TestProxy> {
  const target = new URL(databaseUrl);
  const sockets = new Set<Socket>();
  let losing = false;
  let lost = 0;
  const server = createServer((client) => {
    const upstream = connect(Number(target.port), target.hostname);
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.on('data', (bytes) => upstream.write(bytes));
    upstream.on('data', (bytes) => {
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
