import { get } from 'node:http';

const TIMEOUT_MS = 3_000;

/**
 * Requests `/live` from the node at this address, and returns the fault, or undefined if the node is alive. It imports
 * `node:http` alone, because the image runs it every ten seconds. `/ready` would be wrong: restarting a container does
 * not bring its database back.
 */
export function findLiveFault(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const asked = get({ host: reachable(host), port, path: '/live', agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode === 200 ? undefined : `status ${response.statusCode ?? 0}`);
      asked.destroy();
    });
    const timer = setTimeout(() => asked.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
    asked.on('error', (error) => resolve(error.message));
    asked.on('close', () => clearTimeout(timer));
  });
}

/** Returns the address to connect to: the loopback address if the node listens on all addresses. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  const plain = host.replace(/^\[(.*)\]$/, '$1');
  return plain === '::' ? '::1' : plain;
}
