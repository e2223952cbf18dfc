import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ParsedBackup } from '../../../setup/backup/chain.ts';
import { depth, sampleByKind, seededRandom } from '../../../setup/depth.ts';
import { copyState } from '../../../setup/node/copy-state.ts';
import { type Entry, lostOf, trailOf } from '../../../setup/node/history.ts';
import { openNodes, type TestNodes } from '../../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../../setup/node/store.ts';
import { createTestDatabase, type TestDatabase } from '../../../setup/server/database.ts';
import { verifyBySql } from '../../../setup/server/verify-sql.ts';

type Where = 'same' | 'empty' | 'older' | 'foreign';

let source: TestNodes;
let older: TestDatabase;
beforeAll(async () => {
  source = await openNodes();
  older = await createTestDatabase();
  for (let index = 0; index < 6; index += 1) await source.node.put(`early-${index % 4}`, { index });
  await copyState(source.database.pool, older.pool);
  await source.node.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'late', json: '"x"' }] });
  await source.node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'early-3' }] });
  // The backup's own database has a history of restores.
  await source.node.restore(await source.node.backup());
  await source.node.put('early-0', { last: true });
});
afterAll(async () => {
  await older.drop();
  await source.close();
});

/** Returns a database of this kind and the backup to restore there. */
async function prepare(where: Where): Promise<{ database: TestDatabase; backup: string }> {
  const database = await createTestDatabase();
  if (where === 'same') await copyState(source.database.pool, database.pool);
  if (where === 'older') await copyState(older.pool, database.pool);
  if (where === 'foreign') {
    const node = await openTestStore(database.url);
    await node.put('early-0', 'of another database');
    await node.put('own', 1);
    await node.close();
  }
  return { database, backup: await source.node.backup() };
}

async function write(node: TestStore, what: string): Promise<void> {
  await node.put(`written-${what}`, { what });
  await node.put('early-1', what);
}

async function expectSound(node: TestStore, database: TestDatabase): Promise<void> {
  const verdict = await verify(node);
  expect(verdict).toMatchObject({ ok: true });
  expect(await verifyBySql(database.pool)).toEqual({ entries: verdict.entries, ok: true, firstBadSeq: null });
}

/** Checks the trail after the restore. `live` is the trail before. */
function expectTrail(
  where: Where,
  given: { backup: ParsedBackup; live: Entry[]; after: Entry[]; truncate: boolean },
): void {
  const { backup, live, after, truncate } = given;
  expect(lostOf(backup.audit_entries as Entry[], after)).toEqual([]);
  const diverges = where === 'foreign' || (live.length > 0 && lostOf(live, backup.audit_entries as Entry[]).length > 0);
  // The live trail loses only the entries that truncate_audit replaces.
  const replaced = where === 'same' && truncate ? live.slice(backup.audit_entries.length) : [];
  // Only the entries with the changes of documents follow the restore's own entry.
  const last = after.findLastIndex(({ action }) => action === 'restore');
  expect(after.slice(last + 1).every(({ action }) => action === 'restore.changes')).toBe(true);
  if (where !== 'same' && !diverges) expect(after.slice(0, last)).toEqual(backup.audit_entries);
  const lost = lostOf(live, after);
  expect(lost).toEqual(replaced);
  expect(after[last]).toMatchObject({
    restore: { previous_head: headOf(live), backup: { head: backup.manifest.audit_head } },
  });
}

function headOf(trail: Entry[]): { seq: number; hash: string } {
  const last = trail.at(-1);
  return { seq: last?.seq ?? 0, hash: last?.hash ?? '0'.repeat(64) };
}

const kinds: Where[] = ['same', 'empty', 'older', 'foreign'];
const booleans = [true, false];
const matrix = kinds.flatMap((where) =>
  booleans.flatMap((replaceState) =>
    booleans.flatMap((truncate) =>
      booleans.flatMap((before) => booleans.map((after) => ({ where, replaceState, truncate, before, after }))),
    ),
  ),
);

/**
 * Returns the cases of half of the matrix. In it, every two of database, replace_state and truncate_audit still meet in
 * each way. The seed decides which half.
 */
function oneHalf(cases: typeof matrix): typeof matrix {
  const half = seededRandom('half of the matrix').integer(0, 1);
  const parity = ({ where, replaceState, truncate }: (typeof matrix)[number]): number =>
    (kinds.indexOf(where) + Number(replaceState) + Number(truncate)) % 2;
  return cases.filter((one) => parity(one) === half);
}

describe('a restore', () => {
  // At quick depth, one choice of writes for each of these databases and options.
  const kindOf = ({ where, replaceState, truncate }: (typeof matrix)[number]) => `${where} ${replaceState} ${truncate}`;
  const cases = depth === 'full' ? matrix : oneHalf(matrix);
  it.each(sampleByKind(cases, kindOf, { purpose: 'matrix' }))(
    'on the $where database, replace_state $replaceState, truncate_audit $truncate, writes before $before, after $after',
    async ({ where, replaceState, truncate, before, after }) => {
      const { database, backup: text } = await prepare(where);
      const backup: ParsedBackup = JSON.parse(text);
      let node = await openTestStore(database.url);
      try {
        if (before) await write(node, 'before');
        const [state, live, head] = [await node.state(), await trailOf(node), await node.store.readHead()];

        const options = { replace_state: replaceState, truncate_audit: truncate };
        const report = await node.restore(text, options);

        expect(await node.state()).toEqual(replaceState ? backup.state : state);
        expect(report.revision).toBeGreaterThan(Math.max(head.revision, backup.revision));
        expect(report.epoch === head.epoch).toBe(!replaceState);
        expectTrail(where, { backup, live, after: await trailOf(node), truncate });
        await expectSound(node, database);

        if (after) await write(node, 'after');
        await node.close();
        node = await openTestStore(database.url);
        await expectSound(node, database);

        // The node's new backup restores here and in an empty database.
        const own = await node.backup();
        expect((await node.restore(own)).documents).toMatchObject({ added: 0, changed: 0, removed: 0 });
        await expectSound(node, database);
        await expectRestoresElsewhere(own);
      } finally {
        await node.close();
        await database.drop();
      }
    },
  );
});

async function expectRestoresElsewhere(text: string): Promise<void> {
  const backup: ParsedBackup = JSON.parse(text);
  const database = await createTestDatabase();
  const node = await openTestStore(database.url);
  try {
    await node.restore(text);
    expect(await node.state()).toEqual(backup.state);
    expect((await trailOf(node)).slice(0, -1)).toEqual(backup.audit_entries);
    await expectSound(node, database);
  } finally {
    await node.close();
    await database.drop();
  }
}
