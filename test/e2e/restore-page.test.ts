import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, inject, test } from 'vitest';
import { type Program, runCommandLine, startProgram, waitUntilReady } from '../setup/node/program.ts';
import { createEmptyDatabase, type TestDatabase } from '../setup/server/database.ts';

const LOOM_ADMIN_TOKEN = 'admin-token-of-the-restore-page';
const headers = { 'x-loom-admin-token': LOOM_ADMIN_TOKEN, 'content-type': 'application/json' };
const page = await readFile(new URL('../../docs/restore.md', import.meta.url), 'utf8');

/** Reads the commands of each section by its heading, in the order of the page. */
const blocks = page
  .split(/^## /m)
  .flatMap((section) =>
    [...section.matchAll(/```sh\n([\s\S]*?)```/g)].map(
      (match) => [section.split('\n')[0] ?? '', match[1] ?? ''] as const,
    ),
  );

let database: TestDatabase;
let program: Program;
let directory: string;
beforeAll(async () => {
  database = await createEmptyDatabase();
  directory = await mkdtemp(join(tmpdir(), 'loom-restore-page-'));
  program = await startProgram({ env: { LOOM_PG_URL: database.url, LOOM_ADMIN_TOKEN } });
  await waitUntilReady(program.url);
  await put('kept', 1);
  await put('changed', 'as it was');
  expect(
    await run(
      `curl -sS --fail ${program.url}/v1/admin/persistence/backup -H "x-loom-admin-token: $LOOM_ADMIN_TOKEN" > loom-backup.json && gzip -k loom-backup.json`,
    ),
  ).toEqual([]);
});
afterAll(async () => {
  await program.stop();
  await database.drop();
  await rm(directory, { recursive: true, force: true });
});

async function put(name: string, value: unknown): Promise<void> {
  const body = JSON.stringify(value);
  const answer = await fetch(`${program.url}/v1/documents/${name}`, { method: 'PUT', headers, body });
  expect([200, 201]).toContain(answer.status);
}

async function state(): Promise<unknown> {
  return (await fetch(`${program.url}/v1/state`, { headers })).json();
}

/** Runs the lines as an operator types them and returns the JSON texts that they print. */
async function run(commands: string): Promise<Record<string, unknown>[]> {
  const line = commands
    .replaceAll('http://127.0.0.1:8787', program.url)
    .replaceAll('node dist/main.js', `node ${inject('programEntry')}`)
    .replaceAll('\\\n', ' ');
  const { code, stdout, stderr } = await runCommandLine(line, { directory, env: { LOOM_ADMIN_TOKEN } });
  expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  // The answers that curl prints do not end with a newline.
  const texts = stdout.replaceAll('}{', '}\n{').split('\n');
  return texts.filter((text) => text.startsWith('{')).map((text) => JSON.parse(text));
}

const wasRestored = { kept: 1, changed: 'as it was' };
const wasLive = { kept: 1, changed: 'later', added: true };

/** The answers and effects of each section's commands. */
const outcomes: Record<string, { answers: Record<string, unknown>[]; leaves: unknown }> = {
  'How to restore': {
    answers: [
      { dry_run: true, documents: { added: 0, changed: 1, removed: 1, unchanged: 1 } },
      { dry_run: false, verified: true, documents: { added: 0, changed: 1, removed: 1, unchanged: 1 } },
    ],
    leaves: wasRestored,
  },
  'Large and packed backups': {
    answers: [{ verified: true, documents: { added: 0, changed: 0, removed: 0, unchanged: 2 } }],
    leaves: wasRestored,
  },
  Undo: {
    answers: [{ dry_run: true }, { dry_run: false, undone: [{ kind: 'restore' }] }, { undo: { kept_most: 3 } }],
    leaves: wasRestored,
  },
  'Scratch states': {
    answers: [{ scratch: { state_key: 'trial' } }, { ok: true }, { dropped: true, state_key: 'trial' }],
    leaves: wasRestored,
  },
};

test('every command of the page works verbatim, and has the effects that the page describes', async () => {
  await put('changed', 'later');
  await put('added', true);
  expect(await state()).toEqual(wasLive);
  const seen = new Map<string, Record<string, unknown>[]>();
  for (const [section, commands] of blocks) {
    const answers = [...(seen.get(section) ?? []), ...(await run(commands))];
    seen.set(section, answers);
    expect(await state(), section).toEqual(outcomes[section]?.leaves);
  }
  expect([...seen.keys()]).toEqual(Object.keys(outcomes));
  for (const [section, { answers }] of Object.entries(outcomes)) {
    expect(seen.get(section), section).toHaveLength(answers.length);
    expect(seen.get(section), section).toMatchObject(answers);
  }
});
