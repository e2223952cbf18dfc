import { inject } from 'vitest';
import { isTestWorker } from '../depth.ts';

/** Whether each node of the tests reaches its database through a PgBouncer in transaction mode. */
export const usesPooler = process.env.LOOM_TEST_PGBOUNCER === '1';

/** Connections that a PgBouncer opens for the databases of tests, for each database and role. */
export const POOLED_CONNECTIONS = 4;

/** Maps the port of a private server to that of its PgBouncer. */
const ports = new Map<string, number>();

/** Leads the nodes of this process to the PgBouncer of a server, until the returned function is called. */
export function poolPort(port: number, pooledPort: number): () => void {
  ports.set(String(port), pooledPort);
  return () => void ports.delete(String(port));
}

/** Returns the URL with the port of the server's PgBouncer in place of the server's own. Knows a list of hosts, too. */
export function throughPooler(url: string): string {
  if (!usesPooler || !isTestWorker) return url;
  const serverUrl = inject('serverUrl');
  const pooledPort = inject('pooledPort');
  if (serverUrl !== undefined && pooledPort !== undefined) poolPort(Number(new URL(serverUrl).port), pooledPort);
  return url.replace(/^\w+:\/\/[^/?]*/, (authority) =>
    authority.replace(/(?<=(?:127\.0\.0\.1|localhost):)\d+/g, (port) => String(ports.get(port) ?? port)),
  );
}
