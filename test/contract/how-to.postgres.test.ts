import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Program, startProgram, waitUntilReady } from '../setup/node/program.ts';
import { createEmptyDatabase, type TestDatabase } from '../setup/server/database.ts';
import { jsonOf, openShell, type PageStep, readPage, type Shell } from './rules/page.ts';

const TOKEN = 'admin-token-of-the-how-to-pages';
const root = fileURLToPath(new URL('../..', import.meta.url));
const database = {
  'psql ': `node ${root}test/contract/rules/psql.mjs `,
  'docs/verify-chain.sql': `${root}docs/verify-chain.sql`,
};

/** Prepares what the page of routes requires: the body of a restore, and a scratch state to drop. */
const restoreBodies = `for members in '"dry_run":false' '"into_scratch":"trial"'; do
{ printf '{"confirm":"restore",%s,"backup":' "$members"; curl -sS "$LOOM/v1/admin/persistence/backup" -H "$AUTH"; printf '}'; } > loom-restore.json
curl -sS "$LOOM/v1/admin/persistence/restore" -H "$AUTH" -H 'content-type: application/json' -T loom-restore.json -X POST
done
{ printf '{"confirm":"restore","backup":'; cat loom-backup.json; printf '}'; } > loom-restore.json`;

let databases: TestDatabase[];
let node: Program;
let newNode: Program;
let shell: Shell;
beforeAll(async () => {
  databases = await Promise.all([createEmptyDatabase(), createEmptyDatabase()]);
  [node, newNode] = await Promise.all([start(0, TOKEN), start(1, TOKEN)]);
  shell = await openShell(
    { LOOM_PG_URL: databases[0]?.url ?? '' },
    {
      'http://127.0.0.1:8787': node.url,
      'http://127.0.0.1:8788': newNode.url,
      '/run/secrets/loom_admin_token': 'admin-token',
      ...database,
    },
  );
  await writeFile(join(shell.directory, 'admin-token'), `${TOKEN}\n`);
  for (const name of ['prices', 'opening']) await put(name);
});
afterAll(async () => {
  await Promise.all([node.stop(), newNode.stop()]);
  await Promise.all(databases.map((one) => one.drop()));
  await shell.close();
});

async function start(index: number, token: string, port = '0'): Promise<Program> {
  const env = { LOOM_PG_URL: databases[index]?.url ?? '', LOOM_ADMIN_TOKEN: token, LOOM_PORT: port };
  const program = await startProgram({ env });
  await waitUntilReady(program.url);
  return program;
}

async function put(name: string): Promise<void> {
  const headers = { 'x-loom-admin-token': TOKEN, 'content-type': 'application/json' };
  const answer = await fetch(`${node.url}/v1/documents/${name}`, { method: 'PUT', headers, body: '{"tea":3}' });
  expect(answer.status).toBe(201);
}

/** Restarts the node with the environment that a step has written, as the reader's platform would. */
async function restartAfter({ commands }: PageStep): Promise<void> {
  if (!commands.includes('> loom.env')) return;
  const written = await readFile(join(shell.directory, 'loom.env'), 'utf8');
  await node.stop();
  node = await start(0, written.trim().replace('LOOM_ADMIN_TOKEN=', ''), new URL(node.url).port);
}

test('every command of the operations page works', { timeout: 120_000 }, async () => {
  const operations = await openShell(
    { LOOM_PG_URL: databases[0]?.url ?? '', LOOM_ADMIN_TOKEN: TOKEN },
    { 'http://127.0.0.1:8787': node.url, ...database },
  );
  try {
    await operations.run({
      commands: `node dist/main.js backup --gzip --out last-week.json.gz --url ${node.url} > taken.txt`,
    });
    const printed: string[] = [];
    for (const step of await readPage('operations.md')) printed.push(await operations.run(step));
    expect(printed.filter((text) => text.startsWith('ok: '))).toHaveLength(3);
    expect(printed.join('')).toContain('ok against EARLIER: ');
    expect(jsonOf(printed.at(-1) ?? '')).toMatchObject([{ ok: true }]);
  } finally {
    await operations.close();
  }
});

test('every command of the recipes works and prints what the page shows', { timeout: 120_000 }, async () => {
  const printed: string[] = [];
  for (const step of await readPage('recipes.md')) {
    printed.push(await shell.run(step));
    await restartAfter(step);
  }
  expect(jsonOf(printed.at(-1) ?? '')).toMatchObject([{ ok: true, first_bad_seq: null, head_matches: true }]);
});

test('every command of the page of routes gets a successful answer', { timeout: 120_000 }, async () => {
  const api = await openShell({ LOOM_ADMIN_TOKEN: TOKEN }, { 'http://127.0.0.1:8787': newNode.url });
  try {
    for (const step of await readPage('http-api.md')) {
      if (step.commands.includes('@loom-restore.json')) await api.run({ commands: restoreBodies });
      const printed = await api.run(step);
      expect(printed, step.commands).not.toMatch(/"code":/);
    }
  } finally {
    await api.close();
  }
});
