import { afterAll, beforeAll, expect, test } from 'vitest';
import { jsonOf, openShell, readPage, type Shell } from '../contract/rules/page.ts';
import { type Program, startProgram, waitUntilReady } from '../setup/node/program.ts';
import { createEmptyDatabase, type TestDatabase } from '../setup/server/database.ts';

const LOOM_ADMIN_TOKEN = 'admin-token-of-the-restore-page';
const headers = { 'x-loom-admin-token': LOOM_ADMIN_TOKEN, 'content-type': 'application/json' };

let database: TestDatabase;
let program: Program;
let shell: Shell;
beforeAll(async () => {
  database = await createEmptyDatabase();
  program = await startProgram({ env: { LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN } });
  shell = await openShell({ LOOM_ADMIN_TOKEN }, { 'http://127.0.0.1:8787': program.url });
  await waitUntilReady(program.url);
  await put('kept', 1);
  await put('changed', 'as it was');
  await put('prices', { tea: 3 });
  await shell.run({
    commands: `curl -sS --fail ${program.url}/v1/admin/persistence/backup -H "x-loom-admin-token: $LOOM_ADMIN_TOKEN" > loom-backup.json
gzip -k loom-backup.json`,
  });
});
afterAll(async () => {
  await program.stop();
  await database.drop();
  await shell.close();
});

async function put(name: string, value: unknown): Promise<void> {
  const body = JSON.stringify(value);
  const answer = await fetch(`${program.url}/v1/documents/${name}`, { method: 'PUT', headers, body });
  expect(answer.ok).toBe(true);
}

async function state(): Promise<unknown> {
  return (await fetch(`${program.url}/v1/state`, { headers })).json();
}

const wasRestored = { kept: 1, changed: 'as it was', prices: { tea: 3 } };
const wasLive = { ...wasRestored, changed: 'later', added: true };

/** The answers of each section's commands, and the state that each block of the section leaves. */
const outcomes: Record<string, { answers: Record<string, unknown>[]; leaves: unknown[] }> = {
  'How to restore': {
    answers: [
      { dry_run: true, documents: { added: 0, changed: 1, removed: 1, unchanged: 2 } },
      { dry_run: false, verified: true, documents: { added: 0, changed: 1, removed: 1, unchanged: 2 } },
    ],
    leaves: [wasLive, wasRestored],
  },
  'Single documents': {
    answers: [{ dry_run: true, documents: { added: 0, changed: 0, removed: 0, unchanged: 3 }, warnings: [] }],
    leaves: [wasRestored],
  },
  'Large and packed backups': {
    answers: [{ verified: true, documents: { added: 0, changed: 0, removed: 0, unchanged: 3 } }],
    leaves: [wasRestored],
  },
  Undo: {
    answers: [{ dry_run: true }, { dry_run: false, undone: [{ kind: 'restore' }] }, { undo: { kept_most: 3 } }],
    leaves: [wasRestored, wasRestored],
  },
  'Scratch states': {
    answers: [{ scratch: { state_key: 'trial' } }, { ok: true }, { dropped: true, state_key: 'trial' }],
    leaves: [wasRestored],
  },
};

test('every command of the page works as written, with the effects that the page describes', async () => {
  await put('changed', 'later');
  await put('added', true);
  expect(await state()).toEqual(wasLive);
  const seen = new Map<string, { answers: Record<string, unknown>[]; leaves: unknown[] }>();
  for (const step of await readPage('restore.md')) {
    const { section } = step;
    const { answers, leaves } = seen.get(section) ?? { answers: [], leaves: [] };
    answers.push(...jsonOf(await shell.run(step)));
    leaves.push(await state());
    seen.set(section, { answers, leaves });
  }
  expect([...seen.keys()]).toEqual(Object.keys(outcomes));
  for (const [section, { answers, leaves }] of Object.entries(outcomes)) {
    expect(seen.get(section)?.answers, section).toHaveLength(answers.length);
    expect(seen.get(section)?.answers, section).toMatchObject(answers);
    expect(seen.get(section)?.leaves, section).toEqual(leaves);
  }
});
