import { isDeepStrictEqual } from 'node:util';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { DocumentCounts, RestoreReport } from '../../../src/domain/backup.ts';
import type { UndoReport } from '../../../src/domain/undo.ts';
import { limits } from '../../../src/limits.ts';
import type { ParsedBackup } from '../../setup/backup/chain.ts';
import { depth, rounds } from '../../setup/depth.ts';
import { copyState } from '../../setup/node/copy-state.ts';
import { lostOf, trailOf } from '../../setup/node/history.ts';
import { outcomeOf } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { documentName, jsonText } from '../../setup/values/arbitrary.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

const name = fc.oneof({ weight: 3, arbitrary: fc.constantFrom('a', 'b', 'c', 'd') }, documentName);
const step = fc.oneof(
  { weight: 6, arbitrary: fc.record({ do: fc.constant('put' as const), name, json: jsonText }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('delete' as const), name }) },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constantFrom('restore' as const, 'truncate' as const, 'undo' as const) }),
  },
);
const steps = fc.array(step, { maxLength: 5 });

type Step = typeof step extends fc.Arbitrary<infer One> ? One : never;

/** Makes a history of commits, restores of the state's own last backup, and undos. */
async function live(node: TestStore, history: Step[]): Promise<void> {
  let backup = await node.backup();
  for (const one of history) {
    if (one.do === 'put') await node.commit({ changes: [{ op: 'put', name: one.name, json: one.json }] });
    else if (one.do === 'delete')
      await outcomeOf(node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: one.name }] }));
    else if (one.do === 'undo') await outcomeOf(node.undo());
    else {
      await node.restore(backup, {
        accept_state_key: JSON.parse(backup).state_key,
        truncate_audit: one.do === 'truncate',
      });
      backup = await node.backup();
    }
  }
}

const pair = fc.record({
  common: steps,
  /** Further steps of the state that the backup is taken from. */
  theirs: steps,
  /** Further steps of the state that is restored, if any. */
  ours: fc.option(steps, { nil: [] }),
  where: fc.constantFrom<'same' | 'empty' | 'copy'>('same', 'empty', 'copy'),
  replaceState: fc.boolean(),
  truncate: fc.boolean(),
  audit: fc.constantFrom<'all' | 'none' | 'last' | 'unverified'>('all', 'all', 'all', 'none', 'last', 'unverified'),
});

/** Returns the members that plan and execution must have in common. */
function figures<Report extends RestoreReport | UndoReport>(report: Report): unknown {
  const { dry_run: _dryRun, epoch: _epoch, event_id: _eventId, ...rest } = report;
  return { ...rest, restored_at: null, undone_at: null, audit: { ...report.audit, head: null } };
}

function countsBetween(before: Record<string, unknown>, after: Record<string, unknown>): DocumentCounts {
  const counts = { added: 0, changed: 0, removed: 0, unchanged: 0 };
  for (const one of new Set([...Object.keys(before), ...Object.keys(after)])) {
    if (!Object.hasOwn(before, one)) counts.added += 1;
    else if (!Object.hasOwn(after, one)) counts.removed += 1;
    else if (isDeepStrictEqual(before[one], after[one])) counts.unchanged += 1;
    else counts.changed += 1;
  }
  return counts;
}

function withoutManifest(text: string): string {
  const { manifest: _manifest, ...rest } = JSON.parse(text) as ParsedBackup;
  return JSON.stringify(rest);
}

type Pair = typeof pair extends fc.Arbitrary<infer One> ? One : never;

const PAIRS = rounds({ quick: 6, full: 300 });
const put = (name: string, json: string): Step => ({ do: 'put', name, json });
const plain = { common: [], theirs: [], ours: [], replaceState: true, truncate: false } as const;

/** Pairs that together produce every outcome. At full depth, the random pairs alone must produce them. */
const allExamples: [Pair][] = [
  { ...plain, common: [put('a', '1')], theirs: [put('a', '2'), put('b', '1')], where: 'copy', audit: 'all' } as const,
  { ...plain, theirs: [put('a', '1')], ours: [put('b', '1')], where: 'empty', audit: 'all' } as const,
  { ...plain, common: [put('a', '1')], ours: [put('a', '2')], where: 'same', truncate: true, audit: 'all' } as const,
  { ...plain, theirs: [put('a', '1')], where: 'empty', audit: 'unverified' } as const,
].map((example) => [{ ...example, common: [...example.common], theirs: [...example.theirs], ours: [...example.ours] }]);

const examples = depth === 'full' ? [] : allExamples;

let pairs = 0;
/** Collects the outcomes of all pairs: plans that are all alike would prove little. */
const seen = new Set<string>();

function note({ audit, verified, documents }: RestoreReport): void {
  for (const what of ['adopted', 'imported', 'replaced'] as const) if (audit[what] > 0) seen.add(what);
  if (!verified) seen.add('unverified');
  for (const what of ['added', 'changed', 'removed'] as const) if (documents[what] > 0) seen.add(what);
}

describe('a dry run reports what the restore or undo then does', () => {
  it(`for ${PAIRS} random pairs of live state and backup, and for the undo of each`, async () => {
    await fc.assert(
      fc.asyncProperty(pair, async ({ common, theirs, ours, where, replaceState, truncate, audit }) => {
        pairs += 1;
        const node = await openTestStore(database.url, { stateKey: `ours-${pairs}`, poolMax: 2 });
        const same = where === 'same';
        const origin = same ? node : await openTestStore(database.url, { stateKey: `theirs-${pairs}`, poolMax: 2 });
        try {
          await live(origin, common);
          if (where === 'copy')
            await copyState(database.pool, database.pool, { stateKey: origin.stateKey, as: node.stateKey });
          if (!same) await live(origin, theirs);
          const whole = await origin.backup({
            includeAudit: audit !== 'none',
            ...(audit === 'last' ? { auditLimit: 2 } : {}),
          });
          await live(node, ours);
          const backup = audit === 'unverified' ? withoutManifest(whole) : whole;
          const [before, trail] = [await node.state(), await trailOf(node)];
          const options = {
            replace_state: replaceState,
            truncate_audit: truncate && audit !== 'none',
            accept_state_key: origin.stateKey,
            accept_unverified: audit === 'unverified',
          };

          const plan = await node.restore(backup, { ...options, dry_run: true });
          expect(await trailOf(node)).toEqual(trail);
          expect(await node.state()).toEqual(before);
          const deed = await node.restore(backup, { ...options, expect_revision: plan.based_on_revision });

          expect(figures(deed)).toEqual(figures(plan));
          note(deed);
          const [state, after] = [await node.state(), await trailOf(node)];
          if (replaceState) {
            expect(state).toEqual(JSON.parse(backup).state);
            expect(deed.documents).toEqual(countsBetween(before, state));
          } else {
            expect(state).toEqual(before);
          }
          const own = deed.imported_audit_count - deed.replaced_audit_count + 1;
          expect(after.findLastIndex(({ action }) => action === 'restore')).toBe(trail.length + own - 1);
          expect(lostOf(JSON.parse(backup).audit_entries ?? [], after)).toEqual([]);
          expect(await verify(node)).toMatchObject({ ok: true });

          const undoPlan = await node.undo({ dryRun: true });
          const undone = await node.undo({ expectRevision: undoPlan.based_on_revision });
          expect(figures(undone)).toEqual(figures(undoPlan));
          expect(await node.state()).toEqual(before);
          expect(undone.documents).toEqual(countsBetween(state, before));
          // The trail again has all entries that the restore removed.
          expect(lostOf(trail, await trailOf(node))).toEqual([]);
          expect(await verify(node)).toMatchObject({ ok: true });
        } finally {
          await node.close();
          if (!same) await origin.close();
        }
      }),
      { numRuns: PAIRS + examples.length, examples },
    );
    expect(pairs).toBeGreaterThanOrEqual(PAIRS + examples.length);
    const all = ['added', 'adopted', 'changed', 'imported', 'removed', 'replaced', 'unverified'];
    expect([...seen].sort()).toEqual(all);
  }, 240_000);
});

describe('the names in a plan', () => {
  it('are bounded, and the counts are not', async () => {
    const node = await openTestStore(database.url, { stateKey: 'many' });
    try {
      const backup = await node.backup();
      const changes = Array.from({ length: limits.maxPlanNames + 5 }, (_, index) => ({
        op: 'put' as const,
        name: `n-${String(index).padStart(4, '0')}`,
        json: '1',
      }));
      await node.commit({ action: 'state.patch', changes });
      const plan = await node.restore(backup, { dry_run: true });
      expect(plan.documents).toEqual({ added: 0, changed: 0, removed: limits.maxPlanNames + 5, unchanged: 0 });
      expect(plan.document_names).toMatchObject({ truncated: true, added: [], changed: [] });
      expect(plan.document_names.removed).toEqual(changes.slice(0, limits.maxPlanNames).map((one) => one.name));
    } finally {
      await node.close();
    }
  });
});
