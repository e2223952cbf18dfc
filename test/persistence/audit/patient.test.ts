import { Readable } from 'node:stream';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { createChainChecks } from '../../../src/persistence/activity/chain-checks.ts';
import { verifyAudit } from '../../../src/persistence/audit/verify.ts';
import { planReads } from '../../../src/persistence/audit/verify-plan.ts';
import { lockRestores } from '../../../src/persistence/state/restore-lock.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { verify } from '../../setup/node/store.ts';

let nodes: TestNodes;
beforeEach(async () => {
  nodes = await openNodes();
});
afterEach(() => nodes.close());

const patient = () => ({ requestId: 'test', signal: new AbortController().signal, isPatient: true });

/** Runs `work` while other requests use the node's connections all the time. */
async function whileShared<T>(work: () => Promise<T>): Promise<T> {
  let isDone = false;
  const use = async (): Promise<void> => {
    while (!isDone) await nodes.node.database.execute('select');
  };
  const others = [use(), use()];
  try {
    return await work();
  } finally {
    isDone = true;
    await Promise.all(others);
  }
}

const DOCUMENTS = 40;

async function fill(): Promise<void> {
  const { node } = nodes;
  for (let index = 0; index < DOCUMENTS; index += 1) await node.put(`name-${index}`, { index });
  for (let index = 0; index < DOCUMENTS; index += 1) {
    await node.commit({ changes: [{ op: 'merge', name: `name-${index}`, json: `{"merged":${index}}` }] });
  }
}

it('a statement of a patient connection pauses while others use the database, and only then', async () => {
  const { database } = nodes.node;
  const rowsWith = (isPatient: boolean) =>
    database.transaction(
      'read',
      async (connection) => {
        const pausing = await connection.pausingAt('n', 'text');
        const rows = `select count(*)::int as rows from (select n, repeat('x', 1000) as text from generate_series(1, 3000) n) r`;
        const counted = await connection.firstRow<{ rows: number }>(`${rows} where true${pausing}`);
        return { pauses: pausing.includes('pg_sleep'), rows: counted?.rows };
      },
      { isPatient },
    );
  expect(await rowsWith(true)).toEqual({ pauses: false, rows: 3000 });
  expect(await whileShared(() => rowsWith(true))).toEqual({ pauses: true, rows: 3000 });
  expect(await whileShared(() => rowsWith(false))).toEqual({ pauses: false, rows: 3000 });
});

it('a patient verification uses no workers of PostgreSQL while others use the database, and only then', async () => {
  const workersOf = (isPatient: boolean) =>
    nodes.node.database.transaction(
      'read',
      async (connection) => {
        await planReads(connection);
        const setting = 'max_parallel_workers_per_gather';
        const row = await connection.firstRow<{ workers: number }>(
          `select current_setting('${setting}')::int as workers`,
        );
        return row?.workers;
      },
      { isPatient },
    );
  expect(await whileShared(() => workersOf(true))).toBe(0);
  expect(await workersOf(true)).toBeGreaterThan(0);
  expect(await whileShared(() => workersOf(false))).toBeGreaterThan(0);
});

it('the verdict of a patient verification is that of any other', async () => {
  const { node, database } = nodes;
  await fill();
  expect(await whileShared(() => node.store.verifyAudit(patient()))).toEqual(await verify(node));
  // More wrong merges than are listed, in documents of all parts.
  await database.pool.query(
    `alter table loom_audit disable trigger user;
     update loom_audit set entry = jsonb_set(entry, '{changes,0,sha256}', to_jsonb(repeat('0', 64)))
      where entry #>> '{changes,0,op}' = 'merge';
     update loom_change set sha256 = decode(repeat('00', 32), 'hex') where op = 'merge';
     alter table loom_audit enable trigger user`,
  );
  const verdict = await whileShared(() => node.store.verifyAudit(patient()));
  const wrong = expect.objectContaining({ reason: 'digest_mismatch' });
  expect(verdict).toMatchObject({ ok: false, mismatches: expect.arrayContaining([wrong]) });
  expect(verdict).toEqual(await verify(node));
});

it('a patient verification locks its scratch state, so that nobody drops it meanwhile', async () => {
  const { node } = nodes;
  await fill();
  await node.restore(await node.backup(), { into_scratch: 'trial' });
  expect(await node.store.verifyAudit(patient(), 'trial')).toMatchObject({ ok: true });
  await node.database.transaction('write', async (connection) => {
    await lockRestores(connection, 'trial', 'scratch');
    // No route verifies patiently, so the description of the store does not know this error.
    const state = { database: node.database, stateKey: 'default', chainChecks: createChainChecks(), ...patient() };
    await expect(verifyAudit(state, 'trial')).rejects.toMatchObject({ code: 'restore_in_progress' });
  });
  expect(await node.store.verifyAudit(patient(), 'trial')).toMatchObject({ ok: true });
});

it('a patient restore beside other requests makes the same state', async () => {
  const { node } = nodes;
  await fill();
  const backup = await node.backup();
  const body = `{"confirm":"restore","into_scratch":"trial","backup":${backup}}`;
  const context = { ...patient(), caller: { actor: 'admin' as const } };
  const report = await whileShared(() => node.store.restore(Readable.from([Buffer.from(body)]), context));
  expect(report.scratch?.state_sha256).toBe(JSON.parse(backup).manifest.state_sha256);
  expect(report.audit).toMatchObject({ adopted: 2 * DOCUMENTS });
  expect(await node.store.verifyAudit(patient(), 'trial')).toMatchObject({ ok: true });
});
