import { Readable } from 'node:stream';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import type { RestoreReport } from '../../../src/domain/backup.ts';
import type { UndoReport } from '../../../src/domain/undo.ts';
import { canonicalText } from '../../../src/json/canonical.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { depth, rounds } from '../../setup/depth.ts';
import { expectTrailMakesState } from '../../setup/node/fold.ts';
import { trailOf } from '../../setup/node/history.ts';
import { outcomeOf } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { verifyBySql } from '../../setup/server/verify-sql.ts';
import { documentName, jsonText } from '../../setup/values/arbitrary.ts';

let database: TestDatabase;
beforeAll(async () => {
  database = await createTestDatabase();
});
afterAll(() => database.drop());

type Documents = Record<string, unknown>;

const pool = ['a', 'ab', 'abc', 'b', 'a*', 'a**', '*', '__proto__', 'a\u{10ffff}', 'a\u{10ffff}b'];
const name = fc.oneof({ weight: 4, arbitrary: fc.constantFrom(...pool) }, documentName);
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ do: fc.constant('put' as const), name, json: jsonText }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('delete' as const), name }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('merge' as const), name, json: jsonText }) },
);
const steps = (maxLength: number) => fc.array(step, { maxLength });
type Step = typeof step extends fc.Arbitrary<infer One> ? One : never;

/** One element of `documents`, as the test means it. */
const selected = fc.oneof(
  { weight: 4, arbitrary: fc.record({ text: name, isPrefix: fc.constant(false) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      text: fc.tuple(name, fc.nat(3)).map(([whole, characters]) => [...whole].slice(0, characters).join('')),
      isPrefix: fc.constant(true),
    }),
  },
);
type Selected = typeof selected extends fc.Arbitrary<infer One> ? One : never;

const pair = fc.record({
  common: steps(4),
  /** Further steps of the state that the backup is taken from. */
  theirs: steps(6),
  /** Further steps of the live state. */
  ours: steps(6),
  selection: fc.array(selected, { minLength: 1, maxLength: 4 }),
  sameState: fc.boolean(),
  audit: fc.constantFrom<'all' | 'none' | 'last' | 'unverified'>('all', 'all', 'none', 'last', 'unverified'),
});

/** Writes an element as the docs say: stars at the end of a name are doubled. */
function written({ text, isPrefix }: Selected): string {
  return text.replace(/\*+$/, (stars) => stars + stars) + (isPrefix ? '*' : '');
}

const selects = (one: Selected, candidate: string) =>
  one.isPrefix ? candidate.startsWith(one.text) : candidate === one.text;

/** Returns the live documents, with the selected ones as in the backup. */
function modelOf(live: Documents, backup: Documents, selection: Selected[]): Documents {
  const isSelected = (candidate: string) => selection.some((one) => selects(one, candidate));
  return Object.fromEntries([
    ...Object.entries(live).filter(([one]) => !isSelected(one)),
    ...Object.entries(backup).filter(([one]) => isSelected(one)),
  ]);
}

async function live(node: TestStore, history: Step[]): Promise<void> {
  for (const one of history) {
    if (one.do === 'delete')
      await outcomeOf(node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: one.name }] }));
    else await node.commit({ changes: [{ op: one.do, name: one.name, json: one.json }] });
  }
}

/** Returns the members that plan and execution must have in common. */
function figures<Report extends RestoreReport | UndoReport>(report: Report): unknown {
  const { dry_run: _dryRun, epoch: _epoch, event_id: _eventId, ...rest } = report;
  return { ...rest, restored_at: null, undone_at: null, audit: { ...report.audit, head: null } };
}

async function expectSound(node: TestStore): Promise<void> {
  await expectTrailMakesState(node);
  expect(await verify(node)).toMatchObject({ ok: true });
  expect(await verifyBySql(node.pool, node.stateKey)).toMatchObject({ ok: true });
  const backup = await node.backup();
  const { fold } = await verifyBackup(() => Readable.from([Buffer.from(backup)]), {
    schemaVersion: CURRENT_SCHEMA_VERSION,
  });
  expect(fold).toMatchObject({ mismatches: [], mismatchCount: 0, untoldDocuments: 0 });
}

const PAIRS = rounds({ quick: 4, full: 300 });
let pairs = 0;
/** Collects what the selections met. At full depth, the random pairs must meet everything. */
const seen = new Set<string>();

function note(selection: Selected[], before: Documents, backup: Documents): void {
  for (const one of selection) {
    const kind = one.isPrefix ? 'prefix' : 'exact';
    const isLive = Object.keys(before).some((candidate) => selects(one, candidate));
    const isInBackup = Object.keys(backup).some((candidate) => selects(one, candidate));
    seen.add(`${kind}${isLive ? '' : ', absent live'}${isInBackup ? '' : ', absent in the backup'}`);
  }
}

it(`a restore of selected documents and its undo agree with a model, for ${PAIRS} random pairs`, async () => {
  await fc.assert(
    fc.asyncProperty(pair, async ({ common, theirs, ours, selection, sameState, audit }) => {
      pairs += 1;
      const node = await openTestStore(database.url, { stateKey: `ours-${pairs}`, poolMax: 2 });
      const origin = sameState ? node : await openTestStore(database.url, { stateKey: `theirs-${pairs}`, poolMax: 2 });
      try {
        await live(origin, [...common, ...theirs]);
        const whole = await origin.backup({
          includeAudit: audit !== 'none',
          ...(audit === 'last' ? { auditLimit: 2 } : {}),
        });
        const { manifest: _manifest, ...withoutManifest } = JSON.parse(whole);
        const backup = audit === 'unverified' ? JSON.stringify(withoutManifest) : whole;
        await live(node, sameState ? ours : [...common, ...ours]);
        const content: Documents = JSON.parse(backup).state;
        const before = await node.state();
        const [head, trail] = [await node.store.readHead(), await trailOf(node)];
        const options = { accept_state_key: origin.stateKey, accept_unverified: audit === 'unverified' };
        note(selection, before, content);

        // Whatever selects nothing is refused, and named.
        let remaining = selection;
        for (;;) {
          const names = [...Object.keys(before), ...Object.keys(content)];
          const wrong = remaining.findIndex((one) => !names.some((candidate) => selects(one, candidate)));
          if (wrong < 0) break;
          for (const dryRun of [true, false]) {
            const request = { ...options, documents: remaining.map(written), dry_run: dryRun };
            await expect(node.restore(backup, request)).rejects.toMatchObject({
              code: 'document_not_found',
              place: { pointer: `/documents/${wrong}` },
            });
          }
          remaining = remaining.toSpliced(wrong, 1);
        }
        expect(await trailOf(node)).toEqual(trail);
        fc.pre(Object.keys({ ...before, ...content }).length > 0);
        if (remaining.length === 0) remaining = [{ text: '', isPrefix: true }];

        const documents = remaining.map(written);
        const plan = await node.restore(backup, { ...options, documents, dry_run: true });
        expect(await node.state()).toEqual(before);
        const deed = await node.restore(backup, { ...options, documents, expect_revision: plan.based_on_revision });
        expect(figures(deed)).toEqual(figures(plan));

        const model = modelOf(before, content, remaining);
        const after = await node.state();
        expect(after).toEqual(model);
        expect(deed.document_names).toEqual({
          added: namesOf(model, (one) => !Object.hasOwn(before, one)),
          changed: namesOf(model, (one) => Object.hasOwn(before, one) && !same(before[one], model[one])),
          removed: namesOf(before, (one) => !Object.hasOwn(model, one)),
          truncated: false,
        });
        expect(deed.documents.unchanged).toBe(
          namesOf(model, (one) => Object.hasOwn(before, one) && same(before[one], model[one])).length,
        );
        expect(deed).toMatchObject({ selected_documents: documents, imported_audit_count: 0 });
        const { epoch, revision } = await node.store.readHead();
        expect(revision).toBe(head.revision + 1);
        expect(epoch).not.toBe(head.epoch);

        // The trail stays as it was, and the entry names the backup and the selection.
        const grown = await trailOf(node);
        expect(grown.slice(0, trail.length)).toEqual(trail);
        const { restore } = grown[trail.length] as unknown as { restore: Record<string, unknown> };
        expect(restore).toMatchObject({ selected_documents: documents, adopted_entries: 0, imported_entries: 0 });
        expect(restore.backup).toMatchObject({ state_key: origin.stateKey, revision: JSON.parse(backup).revision });
        await expectSound(node);

        const undoPlan = await node.undo({ dryRun: true });
        const undone = await node.undo({ expectRevision: undoPlan.based_on_revision });
        expect(figures(undone)).toEqual(figures(undoPlan));
        expect(await node.state()).toEqual(before);
        await expectSound(node);
      } finally {
        await node.close();
        if (!sameState) await origin.close();
      }
    }),
    { numRuns: PAIRS },
  );
  if (depth === 'quick') return;
  const kinds = ['exact', 'prefix'].flatMap((kind) => [kind, `${kind}, absent live`, `${kind}, absent in the backup`]);
  expect([...seen]).toEqual(expect.arrayContaining(kinds));
}, 1_800_000);

function namesOf(documents: Documents, condition: (name: string) => boolean): string[] {
  const bytes = (one: string) => Buffer.from(one);
  return Object.keys(documents)
    .filter(condition)
    .sort((one, other) => Buffer.compare(bytes(one), bytes(other)));
}

/** Compares values as PostgreSQL does: -0 is 0, and the order of members does not matter. */
function same(one: unknown, other: unknown): boolean {
  return canonicalText(one) === canonicalText(other);
}
