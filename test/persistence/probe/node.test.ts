import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { type LoomNode, startNode } from '../../../src/node.ts';
import { createCommitFailures } from '../../../src/persistence/commit/commit-failures.ts';
import { toDatabaseError } from '../../../src/persistence/connection/faults.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { runProgramToEnd } from '../../setup/node/program.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';

const headers = { 'x-loom-admin-token': 'an-admin-token-for-tests', 'content-type': 'application/json' };

let database: TestDatabase;
const nodes: LoomNode[] = [];
beforeEach(async () => {
  database = await createEmptyDatabase();
});
afterEach(async () => {
  await Promise.all(nodes.splice(0).map((node) => node.close()));
  await database.drop();
});

async function start(url: string) {
  const captured = captureLog();
  const node = await startNode(testConfig(url, { LOOM_SHUTDOWN_DELAY_MS: '0' }), { log: captured.log });
  nodes.push(node);
  const status = async () => (await fetch(`${node.url}/v1/admin/status`, { headers })).json();
  return {
    untilReason: (reason: string | undefined) =>
      expect.poll(() => node.readiness().reason, { timeout: 20_000, interval: 20 }).toBe(reason),
    detail: async () => ((await status()) as { ready_detail: string | null }).ready_detail,
    put: async (path: string) => {
      const answer = await fetch(`${node.url}${path}`, { method: 'PUT', headers, body: '1' });
      return { status: answer.status, body: (await answer.json()) as { code?: string; detail?: string } };
    },
    messages: (level: string) =>
      captured.lines
        .map((line) => JSON.parse(line))
        .filter((line) => line.level === level)
        .map(({ msg }) => msg),
  };
}

describe('a role without rights', () => {
  const role = `loom_start_${randomBytes(4).toString('hex')}`;
  const asRole = () => Object.assign(new URL(database.url), { username: role, password: 'secret' }).href;
  beforeAll(async () => {
    const admin = await createEmptyDatabase();
    await admin.pool.query(`create role ${role} login password 'secret'`);
    await admin.drop();
  });
  afterAll(async () => {
    const admin = await createEmptyDatabase();
    await admin.pool.query(`drop role ${role}`);
    await admin.drop();
  });

  test('learns which right its first start needs, once, and starts when it has it', async () => {
    await database.pool.query(`revoke create on schema public from public`);
    const node = await start(asRole());
    const grant = `GRANT CREATE ON SCHEMA public TO ${role};`;
    await expect.poll(() => node.messages('error'), { timeout: 10_000 }).toEqual([expect.stringContaining(grant)]);
    await node.untilReason('schema_behind');
    expect(await node.detail()).toContain(grant);
    await database.pool.query(grant);
    await node.untilReason(undefined);
    expect(await node.detail()).toBeNull();
    expect(node.messages('error').filter((message) => message.includes(grant))).toHaveLength(1);
    await database.pool.query(`drop owned by ${role}`);
  });

  test('that migrates by command gets the same GRANT, and exit code 1', async () => {
    await database.pool.query(`revoke create on schema public from public`);
    const { code, output } = await runProgramToEnd(['migrate'], { LOOM_PG_URL: asRole() });
    expect(output).toContain(`GRANT CREATE ON SCHEMA public TO ${role};`);
    expect(output).not.toContain('internal error');
    expect(code).toBe(1);
  });

  test('learns that it cannot even see the schema', async () => {
    await database.pool.query(`revoke all on schema public from public`);
    const node = await start(asRole());
    const grant = `GRANT USAGE, CREATE ON SCHEMA public TO ${role};`;
    await expect.poll(() => node.messages('error'), { timeout: 10_000 }).toEqual([expect.stringContaining(grant)]);
    await database.pool.query(grant);
    await node.untilReason(undefined);
    await database.pool.query(`drop owned by ${role}`);
  });

  test('is told which table it may not use, at its start on an existing schema', async () => {
    const owner = await start(database.url);
    await owner.untilReason(undefined);
    const node = await start(asRole());
    await node.untilReason('db_forbidden');
    await expect
      .poll(node.detail)
      .toMatch(new RegExp(`SELECT on table loom_meta.+GRANT DELETE ON table loom_document TO ${role};`));
    await database.pool.query(`grant select, insert, update, delete on all tables in schema public to ${role}`);
    await node.untilReason(undefined);
    expect((await node.put('/v1/documents/a')).status).toBe(201);
    await database.pool.query(`revoke temporary on database ${database.name} from public`);
    const restarted = await start(asRole());
    await restarted.untilReason(undefined);
    expect(restarted.messages('warn')).toEqual([
      expect.stringContaining(`GRANT TEMPORARY ON DATABASE ${database.name} TO ${role};`),
    ]);
    await database.pool.query(`revoke connect on database ${database.name} from public`);
    const refused = await start(asRole());
    await refused.untilReason('db_forbidden');
    await database.pool.query(`grant connect on database ${database.name} to public`);
    await refused.untilReason(undefined);
    await database.pool.query(`revoke insert on loom_audit from ${role}`);
    await node.untilReason('db_forbidden');
    expect(await node.put('/v1/documents/a')).toMatchObject({
      status: 503,
      body: { code: 'database_unavailable', detail: expect.stringContaining('permission denied for table loom_audit') },
    });
    await database.pool.query(`drop owned by ${role}`);
  });
});

test('the status says why the database cannot be reached, and the log says it once', async () => {
  const node = await start('postgres://u:secret@127.0.0.1:1/x');
  await node.untilReason('db_unreachable');
  expect(await node.detail()).toBe('the connection failed with ECONNREFUSED');
  expect(node.messages('warn').filter((message) => message.includes('is not ready'))).toEqual([
    'the database is not ready: the connection failed with ECONNREFUSED',
  ]);
});

test('a node whose commits all fail turns unready, and ready with the first that succeeds', async () => {
  const node = await start(database.url);
  await node.untilReason(undefined);
  await database.pool.query(
    `create function full_disk() returns trigger language plpgsql as $$
       begin raise exception 'could not extend file' using errcode = 'disk_full'; end $$;
     create trigger full_disk before insert on loom_audit execute function full_disk()`,
  );
  for (let batch = 0; batch < limits.minFailedCommitBatches; batch += 1) {
    expect((await node.put('/v1/documents/a')).status).toBe(503);
  }
  await node.untilReason('db_commits_failing');
  expect(await node.detail()).toContain("the server's disk is full (53100)");
  await database.pool.query('drop trigger full_disk on loom_audit');
  expect((await node.put('/v1/documents/a')).status).toBe(201);
  await node.untilReason(undefined);
});

test('a running node waits for the operator when its state is gone, and never begins a new one over what remains', async () => {
  const node = await start(database.url);
  await node.untilReason(undefined);
  expect((await node.put('/v1/documents/a')).status).toBe(201);
  await database.pool.query(`delete from loom_state where state_key = 'default'`);
  await node.untilReason('state_missing');
  expect(await node.put('/v1/documents/a')).toMatchObject({ status: 503, body: { code: 'starting' } });
  const second = await start(database.url);
  await second.untilReason('state_missing');
  expect(await second.detail()).toContain('docs/repair-state.sql');
  const { rows } = await database.pool.query('select from loom_state');
  expect(rows).toEqual([]);
});

describe('the count of failed commits', () => {
  const fault = (code: string) => toDatabaseError(Object.assign(new pg.DatabaseError('failed', 0, 'error'), { code }));
  const outcome = (promise: Promise<unknown>) => promise.catch(() => undefined);

  test.each([
    ['53100', 1],
    ['25006', 1],
    ['42501', 1],
    ['42883', 1],
    ['58030', 1],
    ['XX001', 1],
    ['53200', 0],
    ['57014', 0],
    ['55P03', 0],
    ['57P01', 0],
    ['22P05', 0],
  ])('after %s is %i: what one client can cause does not count', async (code, batches) => {
    let nowMs = 1_000;
    const failures = createCommitFailures(() => nowMs);
    await outcome(failures.count(Promise.reject(fault(code))));
    nowMs += 500;
    expect(failures.read()).toMatchObject({ batches, ...(batches > 0 ? { ageMs: 500 } : {}) });
    await failures.count(Promise.resolve([]));
    expect(failures.read().batches).toBe(0);
  });
});

test('a redefined function is a warning at the start, and the node serves', async () => {
  await (await start(database.url)).untilReason(undefined);
  await Promise.all(nodes.splice(0).map((node) => node.close()));
  await database.pool.query(
    `create or replace function loom_change_work(p_change jsonb, p_old_bytes int) returns bigint language sql stable as 'select 1::bigint'`,
  );
  const { untilReason, messages } = await start(database.url);
  await untilReason(undefined);
  expect(messages('warn')).toEqual([
    expect.stringContaining(
      'The function loom_change_work(p_change jsonb, p_old_bytes integer) is not as the migrations',
    ),
  ]);
});
