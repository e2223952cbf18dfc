import { afterEach, describe, expect, it } from 'vitest';
import { createRunLedger } from '../../../src/persistence/runs/ledger.ts';
import { depth } from '../../setup/depth.ts';
import { openNodes, outcomeOf, type TestNodes, tally } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { usesPooler } from '../../setup/roles/pooled.ts';

let nodes: TestNodes;
const opened: TestStore[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((one) => one.close()));
  await nodes.close();
});

/** Sets defaults of the database, as an operator may do. They apply to new sessions. */
async function setDefaults(settings: string[]): Promise<void> {
  const { rows } = await nodes.database.pool.query('select quote_ident(current_database()) as name');
  for (const setting of settings) await nodes.database.pool.query(`alter database ${rows[0].name} set ${setting}`);
}

/** Opens a node whose sessions have these defaults. */
async function openNodeWith(...settings: string[]): Promise<TestStore> {
  await setDefaults(settings);
  const node = await openTestStore(nodes.database.url, { poolMax: 2 });
  opened.push(node);
  return node;
}

describe.each(['repeatable read', 'serializable', 'read uncommitted'])('with the default isolation %s', (isolation) => {
  it('two nodes commit without state_busy, and patches of one document lose nothing', async () => {
    nodes = await openNodes();
    const setting = `default_transaction_isolation = '${isolation}'`;
    const both = [await openNodeWith(setting), await openNodeWith(setting)];
    const outcomes = await Promise.all(
      Array.from({ length: 60 }, (_, index) => {
        const json = `{"key${index}":${index}}`;
        const commit = both[index % 2]?.commit({
          action: 'document.patch',
          idempotencyKey: `key-${index}`,
          changes: [{ op: 'merge', name: 'shared', json }],
        });
        return outcomeOf(commit ?? Promise.reject(new Error('no node')));
      }),
    );
    expect(tally(outcomes)).toEqual({ made: 60 });
    const [first] = both;
    if (first === undefined) throw new Error('no node');
    expect(Object.keys((await first.state()).shared as object)).toHaveLength(60);
    expect(await verify(first)).toMatchObject({ ok: true, entries: 60 });
    // The other writing verbs state their isolation themselves.
    const backup = await first.takeBackup();
    const [report] = await Promise.all([first.restore(backup), both[1]?.put('meanwhile', 1)]);
    expect(report).toMatchObject({ verified: true });
    expect((await first.store.readHead()).lastBackupAt).not.toBeNull();
    await first.restore(backup, { into_scratch: 'scratch' });
    expect(await first.store.dropScratch('scratch')).toMatchObject({ dropped: true });
  });
});

/** Defaults that change neither commits nor what is read. */
const harmless = [
  `bytea_output = 'escape'`,
  `datestyle = 'german, dmy'`,
  `intervalstyle = 'sql_standard'`,
  `extra_float_digits = -15`,
  `standard_conforming_strings = off`,
  `backslash_quote = off`,
  `client_encoding = 'latin1'`,
  `timezone = 'Asia/Kathmandu'`,
  `array_nulls = off`,
  `transform_null_equals = on`,
  `quote_all_identifiers = on`,
  `enable_hashagg = off`,
  `enable_sort = off`,
  `enable_indexscan = off`,
  `work_mem = '64kB'`,
  `jit_above_cost = 0`,
  `search_path = "$user", public, pg_catalog`,
  `idle_in_transaction_session_timeout = '2s'`,
  `lock_timeout = '1ms'`,
  `default_transaction_deferrable = on`,
  `synchronous_commit = off`,
  `row_security = off`,
  `plan_cache_mode = 'force_generic_plan'`,
  `plpgsql.variable_conflict = 'use_variable'`,
  `plpgsql.extra_errors = 'all'`,
];

// Each setting by itself takes a database of its own, so a quick run sets them all at once.
const groups = depth === 'full' ? harmless.map((setting) => [setting]) : [harmless];

describe('the defaults of the database', () => {
  it.each(groups)('such as %s change neither commits nor what is read', { timeout: 30_000 }, async (...settings) => {
    nodes = await openNodes();
    const plain = nodes.node;
    const odd = await openNodeWith(...settings);
    const text = 'ü🧵\\"\u0001\\n';
    const write = async (node: TestStore, name: string) => {
      await node.put(name, { text, numbers: [1.5, 1e-7, 1e21, 0.1] });
      await node.commit({
        action: 'document.patch',
        idempotencyKey: `${name}-key`,
        changes: [{ op: 'merge', name, json: JSON.stringify({ more: { text }, text: null }) }],
      });
    };
    await write(plain, 'plain');
    await write(odd, 'odd');
    const state = await odd.state();
    expect(state.odd).toEqual(state.plain);
    expect(await plain.state()).toEqual(state);
    const entriesOf = async (node: TestStore) => (await node.store.readAudit({ limit: 10, order: 'asc' })).entries;
    expect(await entriesOf(odd)).toEqual(await entriesOf(plain));
    expect(await verify(odd)).toMatchObject({ ok: true, entries: 4 });
    expect(await odd.restore(await odd.backup())).toMatchObject({ verified: true });
    const ledger = createRunLedger(odd.database, { stateKey: odd.stateKey, node: 'odd' });
    const slot = new Date('2026-01-02T03:04:00Z');
    expect(await ledger.claimSlot('scheduled', slot)).toMatchObject({ slot });
    const run = await ledger.claimNow('manual');
    expect((await ledger.listRuns({ limit: 1 })).map((one) => new Date(one.slot))).toEqual([run.slot]);
    expect((await ledger.readClock()).getTime()).toBeGreaterThanOrEqual(run.slot.getTime());
  });

  it.each([`default_transaction_read_only = on`, `statement_timeout = '1ms'`])(
    'such as %s refuse a commit with database_unavailable, and nothing is done',
    async (setting) => {
      nodes = await openNodes();
      await nodes.node.put('first', 1);
      const before = await nodes.node.store.readHead();
      const odd = await openNodeWith();
      await setDefaults([setting]);
      const changes = Array.from({ length: 2_000 }, (_, n) => ({ op: 'put' as const, name: `${n}`, json: '1' }));
      // A new connection has the new default.
      await nodes.database.pool.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name = 'loom-test'`,
      );
      // PgBouncer opens the new one unseen.
      if (!usesPooler) await expect.poll(() => odd.database.usage().total).toBe(0);
      expect(await outcomeOf(odd.commit({ action: 'state.patch', changes }))).toBe('database_unavailable');
      await expect.poll(() => nodes.node.store.readHead().catch(() => undefined)).toEqual(before);
    },
  );
});
