import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Change, CommitAction } from '../../../../src/domain/commit.ts';
import type { ParsedBackup } from '../../../setup/backup/chain.ts';
import { rounds } from '../../../setup/depth.ts';
import { copyState } from '../../../setup/node/copy-state.ts';
import { expectTrailMakesState } from '../../../setup/node/fold.ts';
import { expectHistories, trailOf } from '../../../setup/node/history.ts';
import { outcomeOf } from '../../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../../setup/node/store.ts';
import { createTestDatabase, type TestDatabase } from '../../../setup/server/database.ts';
import { verifyBySql } from '../../../setup/server/verify-sql.ts';
import { documentName, jsonText } from '../../../setup/values/arbitrary.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const name = fc.oneof({ weight: 5, arbitrary: fc.constantFrom('a', 'b', 'c', 'd') }, documentName);
/** Few values, so that documents often return to an earlier one. */
const value = fc.oneof({ weight: 3, arbitrary: fc.constantFrom('1', '2', '{"x":1}', '{"x":{"y":2}}') }, jsonText);
const put = fc.record({ op: fc.constant('put' as const), name, json: value });
const merge = fc.record({
  op: fc.constant('merge' as const),
  name,
  json: fc.constantFrom('{"x":null}', '{"x":{"y":null,"z":3}}', '{"x":1}', '{}', '[1]'),
});
const remove = fc.record({ op: fc.constant('delete' as const), name });
const distinct = { selector: (change: Change) => change.name, maxLength: 3 };

const made = <Action extends CommitAction>(action: Action, changes: Change[]) => ({ do: action, changes });
const commit = fc.oneof(
  put.map((change) => made('document.put', [change])),
  merge.map((change) => made('document.patch', [change])),
  remove.map((change) => made('document.delete', [change])),
  fc.uniqueArray(fc.oneof(put, merge, remove), distinct).map((changes) => made('state.patch', changes)),
  fc.uniqueArray(put, distinct).map((changes) => made('state.put', changes)),
);
const backup = fc.record({
  do: fc.constant('backup' as const),
  audit: fc.constantFrom<'all' | 'none' | 'last' | 'unverified'>('all', 'all', 'all', 'none', 'last', 'unverified'),
});
const restore = fc.record({
  do: fc.constant('restore' as const),
  /** Counts backups of both states from the newest. */
  age: fc.nat({ max: 2 }),
  replaceState: fc.oneof({ weight: 3, arbitrary: fc.constant(true) }, fc.constant(false)),
  truncate: fc.boolean(),
});
const undo = fc.record({ do: fc.constant('undo' as const), age: fc.nat({ max: 2 }) });

/** What happens to one of the two states of a history. */
const step = fc.record({
  side: fc.nat({ max: 1 }),
  step: fc.oneof(
    { weight: 6, arbitrary: commit },
    { weight: 2, arbitrary: backup },
    { weight: 3, arbitrary: restore },
    { weight: 1, arbitrary: undo },
  ),
});
type Drawn<Source> = Source extends fc.Arbitrary<infer One> ? One : never;
type Step = Drawn<typeof step>['step'];

const history = fc.record({
  /** Commits of the first state. */
  common: fc.array(commit, { maxLength: 4 }),
  /** Whether the second state begins as a copy of the first, or empty. */
  copied: fc.boolean(),
  steps: fc.array(step, { minLength: 3, maxLength: 10 }),
});

async function takeBackup(node: TestStore, audit: 'all' | 'none' | 'last' | 'unverified'): Promise<string> {
  const text = await node.backup({ includeAudit: audit !== 'none', ...(audit === 'last' ? { auditLimit: 2 } : {}) });
  if (audit !== 'unverified') return text;
  const { manifest: _manifest, ...rest } = JSON.parse(text) as ParsedBackup;
  return JSON.stringify(rest);
}

/** Collects what the restores did: histories in which all are alike would prove little. */
const seen = new Set<string>();

async function take(node: TestStore, one: Step, backups: string[]): Promise<void> {
  if (one.do === 'backup') {
    backups.push(await takeBackup(node, one.audit));
  } else if (one.do === 'undo') {
    const event = (await node.store.readUndoRecords())[one.age]?.event_id;
    const outcome = await outcomeOf(node.undo(event === undefined ? {} : { eventId: event }));
    seen.add(`undo ${outcome}`);
  } else if (one.do === 'restore') {
    const text = backups.at(-1 - one.age) ?? (await takeBackup(node, 'all'));
    const { state_key: key, manifest, audit_entries: entries } = JSON.parse(text) as ParsedBackup;
    const report = await node.restore(text, {
      accept_state_key: key,
      accept_unverified: manifest === undefined,
      replace_state: one.replaceState,
      truncate_audit: one.truncate && entries !== undefined,
    });
    for (const what of ['adopted', 'imported', 'replaced'] as const) if (report.audit[what] > 0) seen.add(what);
  } else {
    const changes = one.changes;
    expect(['made', 'document_not_found']).toContain(await outcomeOf(node.commit({ action: one.do, changes })));
  }
}

let histories = 0;

async function live({ common, copied, steps }: Drawn<typeof history>): Promise<void> {
  histories += 1;
  const keys = [`ours-${histories}`, `theirs-${histories}`, `empty-${histories}`];
  const nodes = await Promise.all(keys.map((stateKey) => openTestStore(database.url, { stateKey, poolMax: 2 })));
  const [ours, theirs, empty] = nodes;
  if (ours === undefined || theirs === undefined || empty === undefined) throw new Error('three stores are open');
  try {
    for (const one of common) await take(ours, one, []);
    if (copied) await copyState(database.pool, database.pool, { stateKey: ours.stateKey, as: theirs.stateKey });
    const backups: string[] = [];
    for (const { side, step: one } of steps) {
      const node = side === 0 ? ours : theirs;
      await take(node, one, backups);
      await expectTrailMakesState(node);
    }
    for (const node of [ours, theirs]) {
      expect(await verify(node)).toMatchObject({ ok: true, told_from_seq: 1, untold_documents: 0 });
      expect(await verifyBySql(node.pool, node.stateKey)).toMatchObject({ ok: true });
      await expectHistories(node);
    }
    // A restore that adopts the whole trail has nothing to add to it.
    const before = await trailOf(ours);
    await empty.restore(await ours.backup(), { accept_state_key: ours.stateKey });
    expect(await trailOf(empty)).toMatchObject([...before, { action: 'restore', restore: { recorded_changes: 0 } }]);
    await expectTrailMakesState(empty);
  } finally {
    await Promise.all(nodes.map((node) => node.close()));
  }
}

const HISTORIES = rounds({ quick: 2, full: 1_000 });

describe('the trail alone makes the state', () => {
  it(`after every step of ${HISTORIES} random histories with restores, undos and imports`, async () => {
    await fc.assert(fc.asyncProperty(history, live), { numRuns: HISTORIES, endOnFailure: true });
    const all = ['adopted', 'imported', 'replaced', 'undo made', 'undo nothing_to_undo'];
    if (HISTORIES >= 1_000) expect([...seen].sort()).toEqual(all);
  }, 1_800_000);
});
