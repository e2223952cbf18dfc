import { get } from 'node:http';
import { parseListenConfig } from '../config/config.ts';
import { createPlainCommand } from './command.ts';

const TIMEOUT_MS = 3_000;

/**
 * Asks the node in this container whether its process is alive. It asks `/live` instead of `/ready`: restarting a container
 * does not bring its database back.
 */
export const healthcheck = createPlainCommand({
  name: 'healthcheck',
  help: {
    summary: 'ask the node on this machine for /live: exit code 0 or 1',
    about: 'Asks the node at LOOM_HOST and LOOM_PORT for /live. It needs no token and no database; the image uses it.',
    succeeds: 'the node is alive',
    fails: 'no answer within 3 s, or another answer than 200',
    examples: ['LOOM_PORT=8787 node dist/main.js healthcheck'],
  },
  run: async ({ env, write }) => {
    const { host, port } = parseListenConfig(env);
    const fault = await askLive(reachable(host), port);
    write(fault === undefined ? 'live\n' : `not live: ${fault}\n`);
    return fault === undefined ? 0 : 1;
  },
});

/** Returns the address to connect to: a node that listens on all addresses answers on the loopback one. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' || host === '[::]' ? '::1' : host;
}

function askLive(host: string, port: number): Promise<string | undefined> {
  return new Promise((resolve) => {
    const asked = get({ host, port, path: '/live', timeout: TIMEOUT_MS }, (response) => {
      response.resume();
      resolve(response.statusCode === 200 ? undefined : `status ${response.statusCode ?? 0}`);
    });
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)));
    asked.on('error', (error) => resolve(error.message));
  });
}
