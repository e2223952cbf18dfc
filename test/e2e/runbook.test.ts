import { createHash } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { canonicalize, canonicalText } from '../../src/json/canonical.ts';
import { CURRENT_SCHEMA_VERSION } from '../../src/persistence/schema/schema.ts';
import { rounds } from '../setup/depth.ts';
import { type Program, portOrAnother, runCommandLine, startProgram, waitUntilReady } from '../setup/node/program.ts';
import { createEmptyDatabase, type TestDatabase } from '../setup/server/database.ts';
import { mergePatch } from '../setup/values/merge-patch.ts';
import { oddDocument, oddNames, oddPatch } from '../setup/values/odd-documents.ts';

const runbook = await readFile(new URL('../../docs/runbook.md', import.meta.url), 'utf8');
const chainQuery = await readFile(new URL('../../docs/verify-chain.sql', import.meta.url), 'utf8');
const steps = stepsOf(runbook);

const ADMIN_TOKEN = 'admin-token-of-the-runbook-test';
const RUNBOOK_PORT = 8787;
const asAdmin = { 'x-loom-admin-token': ADMIN_TOKEN };

interface Step {
  section: string;
  command: string;
}

/** Reads the runbook's commands in order: list items that consist of one piece of inline code. */
function stepsOf(text: string): Step[] {
  let section = '';
  const found: Step[] = [];
  for (const line of text.split('\n')) {
    section = /^## (.*)$/.exec(line)?.[1] ?? section;
    const command = /^\s*- `((?:curl|node) .*)`$/.exec(line)?.[1];
    if (command !== undefined) found.push({ section, command });
  }
  return found;
}

let database: TestDatabase | undefined;
let program: Program | undefined;
let directory: string | undefined;

afterEach(async () => {
  await program?.stop();
  await database?.drop();
  if (directory !== undefined) await rm(directory, { recursive: true, force: true });
});

/** Starts a node on an empty database and the runbook's port, or on another port if that one is in use. */
async function startNode(): Promise<{ database: TestDatabase; directory: string; port: number }> {
  database = await createEmptyDatabase();
  directory = await mkdtemp(join(tmpdir(), 'loom-runbook-'));
  const port = await startProgramOn(database, await portOrAnother(RUNBOOK_PORT));
  return { database, directory, port };
}

/** Starts the node and returns its port. It differs from `port` if, for example, a second test run uses that one. */
async function startProgramOn({ url }: Pick<TestDatabase, 'url'>, port: number): Promise<number> {
  const env = { LOOM_PG_URL: url, LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_PORT: String(port) };
  const started = await startProgram({ env }).catch((error: unknown) => {
    if (String(error).includes(`Port ${port} of 127.0.0.1 is already in use`)) return undefined;
    throw error;
  });
  if (started === undefined) return startProgramOn({ url }, await portOrAnother(0));
  program = started;
  expect(program.url).toBe(`http://127.0.0.1:${port}`);
  await waitUntilReady(program.url);
  return port;
}

async function send(method: string, path: string, body?: string): Promise<Response> {
  const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
  const init = { method, headers: { ...asAdmin, 'content-type': type }, ...(body === undefined ? {} : { body }) };
  const response = await fetch(`${program?.url}${path}`, init);
  if (!response.ok) throw new Error(`${method} ${path.slice(0, 80)}: ${response.status} ${await response.text()}`);
  return response;
}

const pathOf = (name: string): string => `/v1/documents/${encodeURIComponent(name)}`;

/** Puts documents, patches every fourth of them, and returns the expected state. */
async function fill(count: number): Promise<Map<string, unknown>> {
  const names = Array.from({ length: count }, (_, index) => oddNames[index] ?? `collection ${index % 7}/item ${index}`);
  const expected = new Map<string, unknown>();
  await Promise.all(names.map((name, index) => send('PUT', pathOf(name), oddDocument(index))));
  names.forEach((name, index) => {
    expected.set(name, JSON.parse(oddDocument(index)));
  });
  for (const name of names.filter((_, index) => index % 4 === 0)) {
    await send('PATCH', pathOf(name), oddPatch);
    expected.set(name, mergePatch(expected.get(name), JSON.parse(oddPatch)));
  }
  return expected;
}

/** Writes as an application would after the backup. The restore must revert it. */
async function changeEverything(): Promise<void> {
  await send('PUT', pathOf('with space'), '"replaced"');
  await send('PATCH', pathOf('__proto__'), '{"nested":null,"__proto__":{"polluted":"again"}}');
  await send('DELETE', pathOf('with/slash'));
  await send('DELETE', pathOf('...'));
  await send('PUT', pathOf('new'), '{"made":"after the backup"}');
  await send('PATCH', '/v1/state', '{"constructor":null,"also new":[1e21],"100%":{"nested":{"keep":null}}}');
}

interface Outcome {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs all steps. Calls `beforeRestore` between the sections of backup and restore. */
async function followRunbook(
  { directory, port }: { directory: string; port: number },
  beforeRestore: () => Promise<void>,
): Promise<Outcome[]> {
  const outcomes: Outcome[] = [];
  for (const [index, { section, command }] of steps.entries()) {
    if (section === 'Restore Drill' && steps[index - 1]?.section !== section) await beforeRestore();
    const line = port === RUNBOOK_PORT ? command : command.replaceAll(`:${RUNBOOK_PORT}/`, `:${port}/`);
    outcomes.push(await runCommandLine(line, { directory, env: { LOOM_ADMIN_TOKEN: ADMIN_TOKEN } }));
  }
  return outcomes;
}

function checkOutcomes(
  outcomes: Outcome[],
  expected: { documents: number; entries: number; entriesLater: number },
): void {
  expect(outcomes.map(({ code, stderr }) => ({ code, stderr }))).toEqual(steps.map(() => ({ code: 0, stderr: '' })));
  const [ready, schema, status, backup, validation, payload, restore, statusAfter] = outcomes.map(
    ({ stdout }) => stdout,
  );
  expect(JSON.parse(ready ?? '')).toEqual({ ok: true, checks: { http: 'ok', database: 'ok', schema: 'ok' } });
  expect(JSON.parse(schema ?? '')).toMatchObject({
    backend: 'postgres',
    state_key: 'default',
    initialized: true,
    schema_version: CURRENT_SCHEMA_VERSION,
  });
  expect(JSON.parse(status ?? '')).toMatchObject({
    state_key: 'default',
    state: { documents: expected.documents, revision: expected.entries },
    audit: { entries: expected.entries },
    last_restore_at: null,
  });
  expect(JSON.parse(status ?? '').state.bytes).toBeGreaterThanOrEqual(expected.documents * 20_000);
  expect(backup).toBe('');
  expect(validation).toBe(`ok ${CURRENT_SCHEMA_VERSION} ${expected.entries}\n`);
  expect(payload).toBe('');
  const report = JSON.parse(restore ?? '');
  expect(report).toMatchObject({
    restored_at: expect.any(String),
    replaced_state: true,
    truncated_audit: false,
    imported_audit_count: 0,
    verified: true,
    revision: expected.entriesLater + 1,
  });
  const after = JSON.parse(statusAfter ?? '');
  expect(after).toMatchObject({
    state: { documents: expected.documents, revision: report.revision, epoch: report.epoch },
    audit: { entries: report.audit.head.seq, head: report.audit.head },
    last_restore_at: report.restored_at,
    last_backup_at: expect.any(String),
  });
  expect(after.state.epoch).not.toBe(JSON.parse(status ?? '').state.epoch);
}

/** Checks the state, and verifies the chain with LOOM and with plain SQL. */
async function checkState({ pool }: TestDatabase, backup: { state: object }, entries: number): Promise<void> {
  const state = await (await send('GET', '/v1/state')).text();
  expect(Object.keys(JSON.parse(state)).sort()).toEqual(Object.keys(backup.state).sort());
  // Compare texts, because a comparison of objects might ignore `__proto__`.
  expect(digest(canonicalize(state))).toBe(digest(canonicalText(backup.state)));
  expect(JSON.parse(state)).toEqual(backup.state);
  expect(await (await send('GET', '/v1/audit/verify')).json()).toMatchObject({ ok: true, entries });
  const { rows } = await pool.query(chainQuery);
  expect(rows).toHaveLength(1);
  expect(rows[0]).toMatchObject({ ok: true, entries: String(entries) });
}

/** Shortens texts so that a failed comparison fits a screen. */
function digest(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}

describe('the runbook, word for word, against the real program', () => {
  test('contains the commands that this test runs, and no other code', () => {
    expect(steps.map(({ section }) => section)).toEqual([
      ...Array.from({ length: 3 }, () => 'Startup Checks'),
      ...Array.from({ length: 2 }, () => 'Backup Drill'),
      ...Array.from({ length: 3 }, () => 'Restore Drill'),
    ]);
    expect(runbook.match(/\b(?:curl -|node --)/g)).toHaveLength(steps.length);
    expect(runbook).not.toContain('```');
  });

  const cases = [
    { title: 'on a fresh node', count: 0, change: async () => undefined, changes: 0 },
    // With 60 of them, the backup also has several MiB.
    {
      title: 'with many documents of 20 KB',
      count: rounds({ quick: 60, full: 200 }),
      change: async () => undefined,
      changes: 0,
    },
    { title: 'with commits between backup and restore', count: 40, change: changeEverything, changes: 6 },
  ];

  test.each(cases)('$title', { timeout: 180_000 }, async ({ count, change, changes }) => {
    const node = await startNode();
    const expected = await fill(count);
    const entries = count + Math.ceil(count / 4);
    const outcomes = await followRunbook(node, change);
    checkOutcomes(outcomes, { documents: count, entries, entriesLater: entries + changes });

    const backup = JSON.parse(await readFile(join(node.directory, 'loom-backup.json'), 'utf8'));
    expect(digest(canonicalText(backup.state))).toBe(digest(canonicalText(Object.fromEntries(expected))));
    // The restore's own entry, and one with the documents that it has changed back.
    const entriesAfter = entries + changes + (changes > 0 ? 2 : 1);
    await checkState(node.database, backup, entriesAfter);
    expect(await program?.stop()).toBe(0);
    await startProgramOn(node.database, node.port);
    await checkState(node.database, backup, entriesAfter);
    expect(await program?.stop()).toBe(0);
  });
});
