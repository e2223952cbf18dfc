import { request } from 'node:http';
import { parseListenConfig } from '../config/config.ts';
import type { Command } from './command.ts';

const TIMEOUT_MS = 3_000;

/**
 * Asks the node in this container whether its process turns. It asks `/live` and not `/ready`: a container must not be
 * restarted because its database is away.
 */
export const healthcheck: Command = {
  summary: 'ask the node on this machine for /live: exit code 0 or 1',
  run: async ({ env, write }) => {
    const { host, port } = parseListenConfig(env);
    const fault = await askLive(reachable(host), port);
    write(fault === undefined ? 'live\n' : `not live: ${fault}\n`);
    return fault === undefined ? 0 : 1;
  },
};

/** A node that listens on all addresses is reached by the loopback one. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' || host === '[::]' ? '::1' : host;
}

function askLive(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const asked = request({ host, port, path: '/live', timeout: TIMEOUT_MS }, (response) => {
      response.resume();
      resolve(response.statusCode === 200 ? undefined : `status ${response.statusCode ?? 0}`);
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    asked.on('error', (error) => resolve(error.message));
    asked.end();
  });
}
