import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import type { CommitReceipt } from '../../../../src/domain/commit.ts';
import { rounds, sampleByKind, seededRandom } from '../../../setup/depth.ts';
import { type EarlierVersion, earlierVersions, openEarlierStore } from '../../../setup/node/earlier-store.ts';
import { expectIndexed, expectTrailMakesState } from '../../../setup/node/fold.ts';
import { lostOf, trailOf } from '../../../setup/node/history.ts';
import { openTestStore, type TestStore, verify } from '../../../setup/node/store.ts';
import { createTestDatabase, type TestDatabase } from '../../../setup/server/database.ts';

let database: TestDatabase;
let node: TestStore;
beforeEach(async () => {
  database = await createTestDatabase();
  node = await openTestStore(database.url);
});
afterEach(async () => {
  await node.close();
  await database.drop();
});

const random = seededRandom('mixed versions');
const versions = sampleByKind(earlierVersions, () => 'version', { purpose: 'mixed versions' });

/** Commits through both nodes in turns while `work` runs, and returns what they answered. */
async function underLoad(nodes: TestStore[], work: () => Promise<unknown>): Promise<CommitReceipt[]> {
  const receipts: CommitReceipt[] = [];
  let isDone = false;
  const client = async (one: TestStore, own: string): Promise<void> => {
    for (let turn = 0; !isDone || turn < 3; turn += 1) {
      const name = random.pick([own, 'shared']);
      const op = random.pick(['put', 'merge'] as const);
      const action = op === 'put' ? 'document.put' : 'document.patch';
      receipts.push(await one.commit({ action, changes: [{ op, name, json: `{"${own}":${turn},"n":null}` }] }));
    }
  };
  const clients = nodes.flatMap((one, index) => [client(one, `a${index}`), client(one, `b${index}`)]);
  const outcome = await Promise.allSettled([work()]);
  isDone = true;
  await Promise.all(clients);
  for (const one of outcome) if (one.status === 'rejected') throw one.reason;
  return receipts;
}

async function expectSound(): Promise<void> {
  await expectIndexed(node);
  expect(await verify(node)).toMatchObject({ ok: true });
}

/** Lets an earlier node and the new one take turns in restoring and undoing, with commits through both. */
async function takeTurns(version: EarlierVersion): Promise<void> {
  const earlier = await openEarlierStore(version, database.url);
  try {
    for (let round = 0; round < rounds({ quick: 1, full: 10 }); round += 1) {
      let backup = '';
      const both = [earlier, node];
      const made = await underLoad(both, async () => {
        backup = await earlier.backup();
      });
      await expectSound();
      // The earlier node restores and undoes, and leaves a trail that does not tell what.
      for (const truncate of [true, false]) {
        made.push(...(await underLoad(both, () => earlier.restore(backup, { truncate_audit: truncate }))));
        await expectSound();
        await underLoad(both, () => (truncate ? earlier.undo() : node.undo()));
        await expectSound();
      }
      // Every commit is in the trail, or was removed by a restore and brought back by an undo.
      const events = JSON.stringify(await trailOf(node));
      for (const { eventId } of made) expect(events).toContain(eventId);

      // A restore by the new node makes the trail complete, and commits of both nodes keep it so.
      await underLoad(both, () => node.restore(backup));
      await expectTrailMakesState(node);
      await expectSound();
      // An earlier node can undo it, and its own restore can be undone.
      await earlier.undo();
      await expectSound();
      const before = await trailOf(node);
      await node.restore(await node.backup());
      await expectTrailMakesState(node);
      expect(lostOf(before, await trailOf(node))).toEqual([]);
    }
  } finally {
    await earlier.close();
  }
}

describe('nodes of different versions on one database', () => {
  it.each(versions)('serve together, restore and undo: schema version %i', takeTurns, 300_000);

  it.each(versions)(
    'a patch of a document that an earlier one restored does not tell it: schema version %i',
    async (version) => {
      const earlier = await openEarlierStore(version, database.url);
      try {
        await node.put('a', { first: 1 });
        const first = await earlier.backup();
        await node.put('a', { second: 2 });
        await earlier.restore(first);
        for (const json of ['{"patch":1}', '{"patch":2}']) {
          await node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'a', json }] });
        }
        expect(await verify(node)).toMatchObject({ ok: true, untold_documents: 0 });
        // The trail has the digest of the result, but not the value.
        await node.restore(await node.backup());
        await expectTrailMakesState(node);
        await expectSound();
        const { length } = await trailOf(node);
        await node.restore(await node.backup());
        expect(await trailOf(node)).toHaveLength(length + 1);
      } finally {
        await earlier.close();
      }
    },
  );

  it.each(versions)('an earlier one adopts a trail with recorded changes: schema version %i', async (version) => {
    const earlier = await openEarlierStore(version, database.url);
    const other = await createTestDatabase();
    const adopting = await openEarlierStore(version, other.url);
    const late = await openTestStore(other.url);
    try {
      await node.put('a', 1);
      const first = await node.backup();
      await node.put('a', 2);
      await node.restore(first);
      await adopting.restore(await earlier.backup());
      expect(await late.state()).toEqual({ a: 1 });
      await expectIndexed(late);
      await late.restore(await late.backup());
      await expectTrailMakesState(late);
    } finally {
      await late.close();
      await adopting.close();
      await other.drop();
      await earlier.close();
    }
  });
});
