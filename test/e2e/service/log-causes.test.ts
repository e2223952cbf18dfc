import { request } from 'node:http';
import { afterEach, expect, inject, test } from 'vitest';
import { type Program, startProgram, waitUntil, waitUntilReady } from '../../setup/node/program.ts';
import { createTestStore } from '../../setup/object-store/object-store.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

const ADMIN_TOKEN = 'admin-token-of-the-cause-test';
const asAdmin = { 'x-loom-admin-token': ADMIN_TOKEN, 'content-type': 'application/json' };

let program: Program | undefined;
let database: TestDatabase | undefined;

afterEach(async () => {
  await program?.stop();
  await database?.drop();
});

interface Line {
  level: string;
  msg: string;
  status?: number;
  code?: string;
  cause?: string;
  req?: { method: string; path: string };
}

test('the log has the code on each line of a failed request, and the cause once', async () => {
  database = await createTestDatabase();
  const { url, output } = await startHere(database.url);
  expect((await put(url, 'a')).status).toBe(201);
  const backup = await (await fetch(`${url}/v1/admin/persistence/backup`, { headers: asAdmin })).text();

  // The server reports a full disk like this. One write of LOOM needs no new page, so a trigger stands for the disk.
  await database.pool.query(`
    create function fill_disk() returns trigger language plpgsql as $$ begin
      raise exception using errcode = '53100', message = 'could not extend file "base/1": No space left on device';
    end $$;
    create trigger fill_disk before insert on loom_audit for each row execute function fill_disk()`);
  for (let sent = 0; sent < 30; sent += 1) expect((await put(url, 'b')).status).toBe(503);
  const restore = { method: 'POST', headers: asAdmin, body: `{"confirm":"restore","backup":${backup}}` };
  expect((await fetch(`${url}/v1/admin/persistence/restore`, restore)).status).toBe(503);
  expect((await fetch(`${url}/v1/documents/missing`, { headers: asAdmin })).status).toBe(404);
  expect((await fetch(`${url}/nowhere`)).status).toBe(404);
  expect(
    (await fetch(`${url}/v1/state`, { headers: { 'x-loom-admin-token': 'a-wrong-token-of-a-test' } })).status,
  ).toBe(403);

  const lines = await waitUntil(
    async () => linesOf(output()),
    (seen) => seen.some(({ status }) => status === 403),
  );
  const failed = lines.filter(({ status, msg }) => status !== undefined && status >= 400 && msg === 'request answered');
  expect(failed.filter(({ req }) => req?.path !== '/ready').length).toBe(34);
  expect(failed.filter(({ code }) => code === undefined)).toEqual([]);
  expect(failed.filter(({ code }) => code === 'database_unavailable')).toHaveLength(31);
  const causes = lines.filter(({ cause }) => cause !== undefined);
  expect(causes).toMatchObject([
    {
      level: 'warn',
      code: 'database_unavailable',
      cause: '53100',
      msg: expect.stringContaining("the server's disk is full (53100)"),
    },
  ]);
  expect(output()).not.toContain(ADMIN_TOKEN);
  expect(output()).not.toContain('a-wrong-token-of-a-test');
});

test('a backup that a busy node refuses does not count as failed, because an alarm would call somebody', async () => {
  database = await createTestDatabase();
  const { url, output } = await startHere(database.url, {
    LOOM_PG_POOL_MAX: '3',
    LOOM_PG_STREAMS_MAX: '1',
    LOOM_PG_CONNECT_TIMEOUT_MS: '300',
  });
  const slow = request(`${url}/v1/admin/persistence/restore`, { method: 'POST', headers: asAdmin });
  slow.on('error', () => undefined);
  slow.write('{"confirm":"restore","backup":{');
  const metrics = async () => (await fetch(`${url}/metrics`, { headers: asAdmin })).text();
  try {
    await waitUntil(metrics, (text) => text.includes('loom_pool_streams{condition="used"} 1'));
    const refused = await fetch(`${url}/v1/admin/persistence/backup`, { headers: asAdmin });
    expect([refused.status, await refused.json()]).toMatchObject([503, { code: 'streams_busy' }]);
    const counted = await metrics();
    expect(counted).toContain('loom_operations_total{kind="backup",outcome="refused"} 1');
    expect(counted).toContain('loom_operations_total{kind="backup",outcome="failed"} 0');
    expect(linesOf(output()).filter(({ level }) => level === 'error')).toEqual([]);
  } finally {
    slow.destroy();
  }
});

test('a node with a store in S3 writes only lines of its log, whatever its client of S3 thinks of Node.js', async () => {
  database = await createTestDatabase();
  const store = await createTestStore('s3');
  try {
    program = await startProgram({
      env: {
        LOOM_PG_URL: database.url,
        LOOM_ADMIN_TOKEN: ADMIN_TOKEN,
        LOOM_BACKUP_STORE: store.url,
        ...store.variables,
      },
      // As an operator runs it: with the bundle of a quick run, a store in S3 is not up.
      entry: inject('builtEntry'),
    });
    const { url, output, stop } = program;
    const status = async () => (await fetch(`${url}/v1/admin/status`, { headers: asAdmin })).text();
    await waitUntil(status, (text) => text.includes('"up":true'), 20_000);
    await stop();
    expect(linesOf(output()).every(({ level }) => typeof level === 'string')).toBe(true);
  } finally {
    await store.remove();
  }
});

async function startHere(databaseUrl: string, more: Record<string, string> = {}): Promise<Program> {
  program = await startProgram({ env: { LOOM_PG_URL: databaseUrl, LOOM_ADMIN_TOKEN: ADMIN_TOKEN, ...more } });
  await waitUntilReady(program.url);
  return program;
}

function put(url: string, name: string): Promise<Response> {
  return fetch(`${url}/v1/documents/${name}`, { method: 'PUT', headers: asAdmin, body: '{"a":1}' });
}

function linesOf(output: string): Line[] {
  const whole = output.slice(0, output.lastIndexOf('\n'));
  return whole.split('\n').map((line) => JSON.parse(line) as Line);
}
