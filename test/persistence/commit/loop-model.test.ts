import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { rounds } from '../../setup/depth.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

/** A commit as a node sends it, except that small numbers stand for its event id and key. */
interface SentCommit {
  event: number;
  key: number | null;
  action: string;
  precondition: object | null;
  changes: { op: string; name: string; value?: unknown }[];
}

/** What happens to both states: a batch, or something that somebody else does between two batches. */
type Step = { batch: SentCommit[]; options: object } | { meanwhile: 'restored' | 'inserted' | 'removed' };

const name = fc.constantFrom('a', 'b', 'c', 'ü/🧵', '\\."');
const flat = fc.dictionary(fc.constantFrom('x', 'y', 'z'), fc.constantFrom(1, 'text', [{ x: null }], true), {
  maxKeys: 3,
});
const value = fc.oneof(flat, fc.constantFrom(null, 'x'.repeat(300), [], 7, { x: { y: { z: 1 } } }, { x: '{{{' }));
const patch = fc.oneof(flat, value, fc.constantFrom({ x: null }, { x: { y: null, z: 2 } }, { y: {} }, []));
const put = fc.record({ op: fc.constant('put'), name, value });
const merge = fc.record({ op: fc.constant('merge'), name, value: patch });
const remove = fc.record({ op: fc.constant('delete'), name });
const several = { selector: (change: { name: string }) => change.name, maxLength: 4 };

const work = fc.oneof(
  { weight: 6, arbitrary: put.map((change) => ({ action: 'document.put', changes: [change] })) },
  { weight: 3, arbitrary: merge.map((change) => ({ action: 'document.patch', changes: [change] })) },
  { weight: 2, arbitrary: remove.map((change) => ({ action: 'document.delete', changes: [change] })) },
  fc.uniqueArray(fc.oneof(put, merge, remove), several).map((changes) => ({ action: 'state.patch', changes })),
  fc.uniqueArray(put, several).map((changes) => ({ action: 'state.put', changes })),
);

const tags = fc.oneof(
  fc.constant('*'),
  fc.array(
    fc.integer({ min: 0, max: 30 }).map((revision) => `epoch.${revision}`),
    { minLength: 1, maxLength: 12 },
  ),
);
const precondition = fc.record(
  { document: fc.option(name), if_match: tags, if_none_match: tags },
  { requiredKeys: ['document'] },
);

const commit: fc.Arbitrary<SentCommit> = fc
  .record({
    event: fc.oneof({ weight: 9, arbitrary: fc.integer({ min: 100, max: 1_000_000 }) }, fc.integer({ min: 0, max: 5 })),
    key: fc.option(fc.integer({ min: 0, max: 12 }), { freq: 3 }),
    precondition: fc.option(precondition, { freq: 3 }),
    work,
  })
  .map(({ work, ...rest }) => ({ ...rest, ...work }));

/** The options of an old node, and those of a new one with bounds that few or many commits exceed. */
const common = {
  max_document_bytes: fc.constantFrom(200, 100_000),
  max_deletes: fc.constantFrom(0, 1, 100),
  lock_timeout_ms: fc.constant(9_000),
};
const options = fc.oneof(
  fc.record(common),
  fc.record({
    ...common,
    max_entry_bytes: fc.constantFrom(500, 1_000_000),
    max_work_bytes: fc.constantFrom(1_500, 1_000_000),
    max_batch_work_bytes: fc.constantFrom(3_000, 1_000_000),
    max_untimed_work_bytes: fc.constantFrom(1_000, 1_000_000),
    max_hold_ms: fc.constantFrom(0, 60_000),
    max_merge_ms: fc.constant(60_000),
    timed: fc.boolean(),
  }),
);
const generous = fc.constant({
  max_document_bytes: 100_000,
  max_deletes: 100,
  lock_timeout_ms: 9_000,
  max_entry_bytes: 1_000_000,
  max_work_bytes: 1_000_000,
  max_batch_work_bytes: 1_000_000,
  max_untimed_work_bytes: 1_000_000,
  max_hold_ms: 60_000,
  max_merge_ms: 60_000,
  timed: false,
});
const batch = fc.oneof(
  { weight: 2, arbitrary: fc.array(commit, { minLength: 1, maxLength: 10 }) },
  commit.map((one) => [one]),
);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ batch, options: generous }) },
  { weight: 6, arbitrary: fc.record({ batch, options }) },
  fc.record({ meanwhile: fc.constantFrom('restored' as const, 'inserted' as const, 'removed' as const) }),
);

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
  await database.pool.query(await readFile(new URL('../../fixtures/commit-loop.sql', import.meta.url), 'utf8'));
});
afterAll(async () => {
  await database.pool.query('drop function loom_commit_loop');
  await database.drop();
});

const functions = ['loom_commit', 'loom_commit_loop'] as const;

async function apply(stateKey: string, one: Step, callee: string): Promise<unknown> {
  if ('batch' in one) {
    const commits = one.batch.map(({ event, key, precondition, ...rest }) => ({
      ...rest,
      event_id: `00000000-0000-4000-8000-${String(event).padStart(12, '0')}`,
      actor: 'admin',
      request_id: `request-${event}`,
      ...(key !== null && { idempotency_key: `key-${key}` }),
      ...(precondition !== null && { precondition }),
    }));
    const call = [stateKey, JSON.stringify(commits), JSON.stringify(one.options)];
    // Documents by hand may lead to counters below zero, which fail the batch.
    return await database.pool.query(`select ${callee}($1, $2, $3) as answers`, call).then(
      ({ rows }) => rows[0].answers,
      ({ code, constraint }) => ({ code, constraint }),
    );
  }
  const statement = {
    restored:
      'update loom_lineage set restored_seq = (select audit_seq from loom_state where state_key = $1) where state_key = $1',
    inserted: `insert into loom_document (state_key, name, value, revision) values ($1, 'b', '"by hand"', 0) on conflict do nothing`,
    removed: `delete from loom_document where state_key = $1 and name = 'a'`,
  }[one.meanwhile];
  await database.pool.query(statement, [stateKey]);
  return undefined;
}

/** Returns all that the commits have left in the tables, without times and hashes. */
async function contentOf(stateKey: string) {
  const read = async (text: string) => (await database.pool.query(text, [stateKey])).rows;
  return {
    state: await read('select epoch, revision, audit_seq, documents, bytes from loom_state where state_key = $1'),
    documents: await read(
      'select name, value::text, revision, sha256, bytes from loom_document where state_key = $1 order by name',
    ),
    entries: await read(
      `select seq, event_id, idempotency_key, action, entry - 'recorded_at' as entry from loom_audit where state_key = $1 order by seq`,
    ),
    index: await read(
      'select name, seq, revision, op, sha256 from loom_change where state_key = $1 order by name, seq',
    ),
  };
}

/** Returns the rows that contradict each other: hashes, times and the index against the entries. */
async function contradictionsOf(stateKey: string): Promise<unknown[]> {
  const { rows } = await database.pool.query(
    `select 'hash' as of, seq::text as place
       from (select *, lag(hash, 1, decode(repeat('00', 32), 'hex')) over (order by seq) as previous from loom_audit where state_key = $1) a
      where hash <> loom_chain_hash(previous, entry) or recorded_at <> (entry ->> 'recorded_at')::timestamptz
     union all
     select 'head', s.audit_seq::text from loom_state s
      where s.state_key = $1 and s.audit_seq > 0
        and not exists (select from loom_audit a where a.state_key = $1 and (a.seq, a.hash, a.recorded_at) = (s.audit_seq, s.audit_hash, s.updated_at))
     union all
     select 'time', d.name from loom_document d join loom_change c using (state_key, name) join loom_audit a using (state_key, seq)
      where d.state_key = $1 and c.revision = d.revision and a.recorded_at <> d.updated_at
     union all
     (select 'index', name from loom_change where state_key = $1
       except select 'index', c.name from loom_audit a cross join lateral loom_entry_changes(a.entry) c where a.state_key = $1)`,
    [stateKey],
  );
  return rows;
}

it('answers and leaves the same as one commit after the other, for random batches', { timeout: 600_000 }, async () => {
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 8 }), async (steps) => {
      runs += 1;
      const keys = { loom_commit: `set-${runs}`, loom_commit_loop: `loop-${runs}` };
      await database.pool.query(
        `insert into loom_state (state_key, epoch) select key, 'epoch' from unnest($1::text[]) as u (key)`,
        [Object.values(keys)],
      );
      for (const one of steps) {
        const [answers, expected] = await Promise.all(functions.map((callee) => apply(keys[callee], one, callee)));
        expect(answers).toEqual(expected);
      }
      expect(await contentOf(keys.loom_commit)).toEqual(await contentOf(keys.loom_commit_loop));
      expect(await contradictionsOf(keys.loom_commit)).toEqual([]);
    }),
    { numRuns: rounds({ quick: 15, full: 1_000 }) },
  );
});
