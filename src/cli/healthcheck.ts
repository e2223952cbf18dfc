import { get } from 'node:http';
import { parseListenConfig } from '../config/config.ts';
import { createPlainCommand } from './command.ts';

const TIMEOUT_MS = 3_000;

/** Requests `/live`, not `/ready`: restarting a container does not bring its database back. */
export const healthcheck = createPlainCommand({
  name: 'healthcheck',
  help: {
    summary: 'check that the node on this machine is alive: exit code 0 or 1',
    about:
      'Requests /live from the node at LOOM_HOST and LOOM_PORT. It needs no token and no database; the image uses it.',
    succeeds: 'the node is alive',
    fails: 'no answer within 3 s, or a status other than 200',
    examples: ['LOOM_PORT=8787 node dist/main.js healthcheck'],
  },
  run: async ({ env, write }) => {
    const { host, port } = parseListenConfig(env);
    const fault = await askLive(reachable(host), port);
    write(fault === undefined ? 'live\n' : `not live: ${fault}\n`);
    return fault === undefined ? 0 : 1;
  },
});

/** Returns the address to connect to: the loopback address if the node listens on all addresses. */
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
