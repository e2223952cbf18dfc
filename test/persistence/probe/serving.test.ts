import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { createProbe, type Probe, type ProbeOptions } from '../../../src/persistence/probe/probe.ts';
import { functionNames, tableRights } from '../../../src/persistence/schema/objects.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { readServingFacts } from '../../../src/persistence/schema/serving-facts.ts';
import { ensureState } from '../../../src/persistence/state/state-row.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { openTestStore, verify } from '../../setup/node/store.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { openDoor } from '../../setup/server/door.ts';
import { applyMigrations } from '../../setup/server/migrations.ts';
import { type PrivateServer, startPrivateServer } from '../../setup/server/private-server.ts';

const opened: Probe[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((probe) => probe.close()));
});

function startProbe(url: string, commitFailures?: ProbeOptions['commitFailures'], now?: () => number) {
  const captured = captureLog();
  const probe = createProbe({
    postgres: testConfig(url).postgres,
    log: captured.log,
    applicationName: 'loom probe',
    supportedSchemaVersion: CURRENT_SCHEMA_VERSION,
    intervalMs: 20,
    ...(commitFailures === undefined ? {} : { commitFailures }),
    ...(now === undefined ? {} : { now }),
  });
  opened.push(probe);
  probe.start();
  const warnings = () => captured.lines.map((line) => JSON.parse(line)).filter(({ level }) => level === 'warn');
  return { probe, warnings };
}

async function untilReason(probe: Probe, reason: string | undefined): Promise<void> {
  await expect.poll(() => probe.verdict().reason, { timeout: 10_000, interval: 10 }).toBe(reason);
}

/** Creates the tables of LOOM and the row of the state `default`. */
async function prepare(url: string): Promise<void> {
  await applyMigrations(url);
  const door = openDoor(url, 1);
  await ensureState(door, 'default');
  await door.close({ deadlineMs: 5_000 });
}

describe('a role that does not own the tables', () => {
  const role = `loom_serving_${randomBytes(4).toString('hex')}`;
  let database: TestDatabase;
  let url: string;
  beforeAll(async () => {
    database = await createEmptyDatabase();
    await prepare(database.url);
    await database.pool.query(`create role ${role} login password 'secret'`);
    url = Object.assign(new URL(database.url), { username: role, password: 'secret' }).href;
  });
  beforeEach(() =>
    database.pool.query(`grant select, insert, update, delete on all tables in schema public to ${role}`),
  );
  afterAll(async () => {
    await database.pool.query(`drop owned by ${role}; drop role ${role}`);
    await database.drop();
  });

  const named = (text: string) => text.replaceAll('ROLE', role);

  test('learns about each right that it lacks, with the statement that grants it', async () => {
    const door = openDoor(url, 1);
    for (const [table, rights] of Object.entries(tableRights)) {
      for (const right of rights) {
        await database.pool.query(`revoke ${right} on ${table} from ${role}`);
        const facts = await readServingFacts(door, 'default');
        expect(facts.rights).toEqual([`${right.toUpperCase()} on table ${table}`]);
        expect(facts.grants).toEqual([`GRANT ${right.toUpperCase()} ON table ${table} TO ${role};`]);
        await database.pool.query(facts.grants.join());
        expect((await readServingFacts(door, 'default')).rights).toEqual([]);
      }
    }
    await door.close({ deadlineMs: 5_000 });
  });

  test('serves with exactly the rights that the probe asks for', async () => {
    await database.pool.query(`revoke all on all tables in schema public from ${role}`);
    for (const [table, rights] of Object.entries(tableRights)) {
      await database.pool.query(`grant ${rights.join(', ')} on ${table} to ${role}`);
    }
    const node = await openTestStore(url);
    try {
      await node.put('a', 1);
      const backup = await node.takeBackup();
      await node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'a', json: '{"b":1}' }] });
      await node.commit({ action: 'state.put', changes: [{ op: 'put', name: 'c', json: '1' }] });
      await node.restore(backup, { truncate_audit: true });
      await node.undo();
      expect(await verify(node)).toMatchObject({ ok: true });
      await node.restore(backup, { into_scratch: 'trial' });
      await node.store.dropScratch('trial');
      expect(await node.state()).toEqual({ c: 1 });
    } finally {
      await node.close();
    }
  });

  const spoiled: [string, string, string][] = [
    [
      'revoke select on loom_meta from ROLE',
      'grant select on loom_meta to ROLE',
      'GRANT SELECT ON table loom_meta TO ROLE;',
    ],
    [
      'revoke insert on loom_audit from ROLE',
      'grant insert on loom_audit to ROLE',
      'GRANT INSERT ON table loom_audit TO ROLE;',
    ],
    [
      'revoke execute on function loom_commit from public',
      'grant execute on function loom_commit to public',
      'GRANT EXECUTE ON function loom_commit(text,jsonb,jsonb) TO ROLE;',
    ],
    [
      'revoke usage on schema public from public',
      'grant usage on schema public to public',
      'GRANT USAGE ON schema public TO ROLE;',
    ],
  ];

  test.each(spoiled)('%s: the reason is db_forbidden, and the log gives the GRANT', async (spoil, mend, grant) => {
    const { probe, warnings } = startProbe(url);
    await untilReason(probe, undefined);
    await database.pool.query(named(spoil));
    try {
      await untilReason(probe, 'db_forbidden');
      expect(probe.verdict()).toMatchObject({ ok: false, database: 'forbidden' });
      expect(warnings()).toEqual([expect.objectContaining({ msg: expect.stringContaining(named(grant)) })]);
    } finally {
      await database.pool.query(named(mend));
    }
    await untilReason(probe, undefined);
  });

  test('a policy that applies is db_forbidden, and names the table', async () => {
    const { probe, warnings } = startProbe(url);
    await untilReason(probe, undefined);
    await database.pool.query('alter table loom_document enable row level security');
    try {
      await untilReason(probe, 'db_forbidden');
      expect(warnings()).toEqual([expect.objectContaining({ msg: expect.stringContaining('loom_document') })]);
      await database.pool.query(`alter role ${role} bypassrls`);
      await untilReason(probe, undefined);
    } finally {
      await database.pool.query(`alter role ${role} nobypassrls; alter table loom_document disable row level security`);
    }
  });

  test('sees a setting that only new sessions obey', async () => {
    const { probe } = startProbe(url);
    await untilReason(probe, undefined);
    await database.pool.query(`alter role ${role} set default_transaction_read_only = on`);
    await untilReason(probe, 'db_read_only');
    await database.pool.query(`alter role ${role} reset default_transaction_read_only`);
    await untilReason(probe, undefined);
  });
});

describe('a schema that somebody damages', () => {
  let database: TestDatabase;
  beforeEach(async () => {
    database = await createEmptyDatabase();
    await prepare(database.url);
  });
  afterEach(() => database.drop());

  test('lists exactly the objects of the migrations', async () => {
    const { rows } = await database.pool.query<{ kind: string; name: string }>(
      `select 'table' as kind, relname as name from pg_class where relname like 'loom%' and relkind = 'r'
        union select 'function', proname from pg_proc where proname like 'loom%' order by kind desc, name`,
    );
    const of = (kind: string) => rows.filter((row) => row.kind === kind).map(({ name }) => name);
    expect(of('table')).toEqual(Object.keys(tableRights).sort());
    expect(of('function')).toEqual([...functionNames].sort());
  });

  test('names every object that is missing', async () => {
    for (const name of ['loom_audit', 'loom_snapshot_audit', 'loom_meta']) {
      await database.pool.query(`drop table ${name} cascade`);
      const { missing } = await readServingFacts(database.door(), 'default');
      expect(missing).toContain(`table ${name}`);
    }
    for (const name of functionNames) {
      await database.pool.query(
        `do $$ declare r record; begin for r in select oid::regprocedure as f from pg_proc where proname = '${name}'
           loop execute 'drop routine if exists ' || r.f || ' cascade'; end loop; end $$`,
      );
      expect((await readServingFacts(database.door(), 'default')).missing).toContain(`function ${name}`);
    }
  });

  test.each(['table loom_snapshot', 'table loom_document', 'table loom_meta', 'function loom_commit'])(
    'turns bad at once without %s, and good again when it is back',
    async (object) => {
      const { probe, warnings } = startProbe(database.url);
      await untilReason(probe, undefined);
      const [kind, name] = object.split(' ');
      await database.pool.query(`alter ${kind} ${name} rename to moved`);
      await untilReason(probe, 'schema_damaged');
      expect(probe.verdict()).toMatchObject({ database: 'ok', schema: 'damaged' });
      expect(warnings()).toEqual([expect.objectContaining({ msg: expect.stringContaining(object) })]);
      await database.pool.query(`alter ${kind} moved rename to ${name}`);
      await untilReason(probe, undefined);
    },
  );

  test("reports that the state's row is gone, with and without remaining rows", async () => {
    const { probe, warnings } = startProbe(database.url);
    await untilReason(probe, undefined);
    await database.pool.query('delete from loom_state');
    await untilReason(probe, 'state_missing');
    await database.pool.query(
      `insert into loom_document (state_key, name, value, revision) values ('default', 'a', '1', 1)`,
    );
    await expect.poll(() => probe.verdict().detail).toContain('documents or audit entries remain');
    expect(warnings()).toHaveLength(2);
    await ensureState(database.door(), 'default');
    await expect.poll(() => probe.verdict().reason).toBe('state_missing');
    const { rows } = await database.pool.query('select from loom_state');
    expect(rows).toEqual([]);
  });
});

describe('commits that do not end or do not succeed', () => {
  test('turn bad while the last batches failed recently, and good with the first success', async () => {
    const database = await createEmptyDatabase();
    await prepare(database.url);
    let failures = { batches: limits.minFailedCommitBatches - 1, ageMs: 0, fault: 'the disk is full' };
    const { probe, warnings } = startProbe(database.url, () => failures);
    await untilReason(probe, undefined);
    failures = { ...failures, batches: limits.minFailedCommitBatches };
    await untilReason(probe, 'db_commits_failing');
    expect(warnings()).toEqual([expect.objectContaining({ msg: expect.stringContaining('the disk is full') })]);
    failures = { ...failures, ageMs: limits.maxCommitFailureAgeMs + 1 };
    await untilReason(probe, undefined);
    await database.drop();
  });
});

describe('a server of its own', () => {
  let server: PrivateServer;
  let admin: pg.Pool;
  beforeAll(async () => {
    server = await startPrivateServer({ settings: { max_connections: '30' } });
    admin = new pg.Pool({ connectionString: server.url, max: 2 });
    // The server may stop before the last connection has closed.
    admin.on('error', () => undefined);
    await prepare(server.url);
  });
  afterAll(async () => {
    await admin.end();
    await server.stop();
  });

  async function setServer(name: string, value: string): Promise<void> {
    await admin.query(`alter system set ${name} = '${value}'`);
    await admin.query('select pg_reload_conf()');
  }

  test('that becomes read-only is db_read_only at once, and the log says so once', async () => {
    const { probe, warnings } = startProbe(server.url);
    await untilReason(probe, undefined);
    await setServer('default_transaction_read_only', 'on');
    await untilReason(probe, 'db_read_only');
    expect(probe.verdict()).toMatchObject({ ok: false, database: 'read_only', schema: 'ok' });
    await setServer('default_transaction_read_only', 'off');
    await untilReason(probe, undefined);
    expect(warnings()).toEqual([
      expect.objectContaining({
        reason: 'db_read_only',
        msg: expect.stringContaining('default_transaction_read_only'),
      }),
    ]);
  });

  test('that has no connection left for the probe is ready as long as the probe keeps its own', async () => {
    let looks = 0;
    const { probe, warnings } = startProbe(server.url, undefined, () => {
      looks += 1;
      return performance.now();
    });
    await untilReason(probe, undefined);
    const others: pg.Client[] = [];
    try {
      for (;;) {
        const client = new pg.Client({ connectionString: server.url });
        await client.connect();
        others.push(client);
      }
    } catch (error) {
      expect(error).toMatchObject({ code: '53300' });
    }
    const before = looks;
    // Each check looks at the clock at least twice.
    await expect.poll(() => looks, { timeout: 20_000 }).toBeGreaterThan(before + 8 * limits.maxProbeConnectionChecks);
    expect(probe.verdict()).toMatchObject({ ok: true });
    expect(warnings()).toEqual([]);
    await Promise.all(others.map((client) => client.end()));
  });

  test('whose synchronous standby is gone is db_commits_stalled, until the commit ends', async () => {
    const { probe, warnings } = startProbe(server.url);
    await untilReason(probe, undefined);
    await setServer('synchronous_standby_names', 'gone');
    const client = new pg.Client({ connectionString: server.url });
    await client.connect();
    const commit = client.query(`update loom_meta set updated_at = now() where key = 'schema_version'`);
    await untilReason(probe, 'db_commits_stalled');
    expect(probe.verdict()).toMatchObject({ ok: false, database: 'stalled' });
    await setServer('synchronous_standby_names', '');
    await commit;
    await untilReason(probe, undefined);
    expect(warnings()).toHaveLength(1);
    await client.end();
  });
});
