import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import type { Command } from '../../../src/cli/command.ts';
import type { StoredBackups } from '../../../src/domain/backup-run.ts';
import { ADMIN_TOKEN, createTestServer, type TestServer } from '../node/http.ts';
import { type HttpProxy, startHttpProxy } from '../node/http-proxy.ts';
import { type CommandOptions, type CommandRun, runCommand } from './command.ts';

export interface ClientSite {
  server: TestServer;
  /** The proxy between the commands and the node. */
  proxy: HttpProxy;
  /** A new folder for each test, and a file in it that does not exist yet. */
  folder: string;
  file: string;
  /** Runs a command on the node, and asserts that its output does not contain the token. */
  run(command: Command, args: string[], options?: CommandOptions): Promise<CommandRun>;
  state(): Promise<unknown>;
  revision(): Promise<number>;
}

/** Starts a node behind a proxy, for all tests of a file. Each test begins with the same three documents. */
export function useClientSite(storedBackups?: StoredBackups): ClientSite {
  const site = {
    run: async (command, args, options = {}) => {
      const env = { LOOM_ADMIN_TOKEN: `${ADMIN_TOKEN},another-token-for-a-rotation`, LOOM_URL: site.proxy.url };
      const done = await runCommand(command, args, { env, ...options });
      expect(`${done.stdout}${done.stderr}`).not.toContain(ADMIN_TOKEN);
      return done;
    },
    state: async () => (await site.server.request('GET', '/v1/state')).json(),
    revision: async () => (await site.server.request('GET', '/v1/documents')).json().revision,
  } as ClientSite;
  beforeAll(async () => {
    site.server = await createTestServer({}, { storedBackups });
    site.proxy = await startHttpProxy((await site.server.listen()).url);
  });
  afterAll(async () => {
    await site.proxy.close();
    await site.server.close({ timeoutMs: 1_000 });
  });
  beforeEach(async () => {
    const { server, proxy } = site;
    proxy.intercept(undefined);
    proxy.asked.length = 0;
    const body = '{"a":1,"b":{"c":[2]},"\\u202egpj":3}';
    expect((await server.request('PUT', '/v1/state', { body })).status).toBe(200);
    const folder = await mkdtemp(join(tmpdir(), 'loom-commands-'));
    Object.assign(site, { folder, file: join(folder, 'backup.json') });
    return () => rm(folder, { recursive: true, force: true });
  });
  return site;
}
