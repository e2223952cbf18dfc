import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect } from 'vitest';
import type { DrillReport } from '../../../src/cli/drill/report.ts';
import { drill } from '../../../src/cli/drill.ts';
import { ADMIN_TOKEN, createTestServer, type TestServer } from '../node/http.ts';
import { type HttpProxy, startHttpProxy } from '../node/http-proxy.ts';
import { type CommandOptions, type CommandRun, runCommand } from './command.ts';

export const BACKUP = '/v1/admin/persistence/backup';

export type Drilled = CommandRun & { report: DrillReport; summary: string };

export interface DrillSite {
  server: TestServer;
  /** The proxy between the drill and the node. */
  proxy: HttpProxy;
  /** The folder for reports, a new one for each test. */
  out: string;
}

/** Starts a node with three documents behind a proxy, for all tests of a file. */
export function useDrillSite(): DrillSite {
  const site = {} as DrillSite;
  beforeAll(async () => {
    site.server = await createTestServer();
    const { url } = await site.server.listen();
    site.proxy = await startHttpProxy(url);
    for (const name of ['a', 'b', 'ü/2']) await put(site, name, { name, values: [1, 2.5, null] });
  });
  afterAll(async () => {
    await site.proxy.close();
    await site.server.close({ timeoutMs: 1_000 });
  });
  beforeEach(async () => {
    site.proxy.intercept(undefined);
    site.proxy.asked.length = 0;
    site.out = await mkdtemp(join(tmpdir(), 'loom-drill-'));
    const { out } = site;
    return () => rm(out, { recursive: true, force: true });
  });
  return site;
}

export async function put({ server }: DrillSite, name: string, value: unknown): Promise<void> {
  const path = `/v1/documents/${encodeURIComponent(name)}`;
  expect((await server.request('PUT', path, { body: JSON.stringify(value) })).status).toBeLessThan(300);
}

/** Runs a drill on the site and reads its report. */
export async function runDrill(
  { proxy, out }: DrillSite,
  args: string[] = [],
  options: CommandOptions = {},
): Promise<Drilled> {
  const env = { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: proxy.url };
  const run = await runCommand(drill, ['--out', out, ...args], { env, ...options });
  const report = JSON.parse(await readFile(join(out, 'report.json'), 'utf8')) as DrillReport;
  const summary = await readFile(join(out, 'summary.md'), 'utf8');
  expect(run.stdout).toBe(summary);
  expect(JSON.stringify({ ...run, report })).not.toContain(ADMIN_TOKEN);
  return { ...run, report, summary };
}

/** Returns `step outcome` for each step, in order. */
export function outcomes({ steps }: DrillReport): string[] {
  return steps.map(({ step, outcome }) => `${step} ${outcome}`);
}

export function failedSteps({ steps }: DrillReport): { step: string; code: string | null }[] {
  return steps.filter(({ outcome }) => outcome === 'failed').map(({ step, code }) => ({ step, code }));
}

export async function scratchKeys({ server }: DrillSite): Promise<string[]> {
  const { rows } = await server.pool.query<{ key: string }>(
    `select ltrim(state_key, E'\\x1f') as key from loom_state where state_key <> 'default'`,
  );
  return rows.map(({ key }) => key);
}
