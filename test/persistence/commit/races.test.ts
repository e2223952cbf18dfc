import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openNodes, outcomeOf, type TestNodes, tally } from '../../setup/node/nodes.ts';
import { verify } from '../../setup/node/store.ts';

describe.each([{ count: 1 }, { count: 2 }])('with $count node(s) on one database', ({ count }) => {
  let nodes: TestNodes;
  beforeAll(async () => {
    nodes = await openNodes(count);
  });
  afterAll(() => nodes.close());

  const race = async (writers: number, write: (index: number) => Promise<unknown>): Promise<Record<string, number>> =>
    tally(await Promise.all(Array.from({ length: writers }, (_, index) => outcomeOf(write(index)))));

  it('of 40 writers on one entity tag, one wins', async () => {
    const { epoch, revision } = await nodes.node.put('contended', 'before');
    const outcomes = await race(40, (index) =>
      nodes.at(index).commit({
        precondition: { document: 'contended', ifMatch: [`${epoch}.${revision}`] },
        changes: [{ op: 'put', name: 'contended', json: String(index) }],
      }),
    );
    expect(outcomes).toEqual({ made: 1, precondition_failed: 39 });
    expect((await nodes.node.store.readHead()).revision).toBe(revision + 1);
  });

  it('of 40 creators, one creates', async () => {
    const before = await nodes.node.store.readHead();
    const outcomes = await race(40, (index) =>
      nodes.at(index).commit({
        precondition: { document: 'created', ifNoneMatch: '*' },
        changes: [{ op: 'put', name: 'created', json: String(index) }],
      }),
    );
    expect(outcomes).toEqual({ made: 1, precondition_failed: 39 });
    expect((await nodes.node.store.readHead()).documents).toBe(before.documents + 1);
  });

  it('of 40 writers on one state tag, one wins', async () => {
    const { epoch, revision } = await nodes.node.store.readHead();
    const outcomes = await race(40, (index) =>
      nodes.at(index).commit({
        precondition: { document: null, ifMatch: [`${epoch}.${revision}`] },
        changes: [{ op: 'put', name: `own-${index}`, json: '1' }],
      }),
    );
    expect(outcomes).toEqual({ made: 1, precondition_failed: 39 });
  });

  it('30 equal idempotency keys at once make one commit, and all get its receipt', async () => {
    const before = await nodes.node.store.readHead();
    const receipts = await Promise.all(
      Array.from({ length: 30 }, (_, index) =>
        nodes.at(index).commit({ idempotencyKey: 'same', changes: [{ op: 'put', name: 'once', json: '{"n":1}' }] }),
      ),
    );
    expect(tally(receipts.map(({ replayed }) => String(replayed)))).toEqual({ false: 1, true: 29 });
    expect(new Set(receipts.map((receipt) => JSON.stringify({ ...receipt, replayed: null }))).size).toBe(1);
    const after = await nodes.node.store.readHead();
    expect(after.revision).toBe(before.revision + 1);
    expect(after.head.seq).toBe(before.head.seq + 1);
  });

  it('200 increments by compare-and-swap lose none', async () => {
    await nodes.node.put('counter', 0);
    const increment = async (index: number): Promise<void> => {
      for (;;) {
        const now = await nodes.at(index).store.readDocument('counter');
        if (now === undefined) throw new Error('the counter is gone');
        const outcome = await outcomeOf(
          nodes.at(index).commit({
            precondition: { document: 'counter', ifMatch: [`${now.epoch}.${now.revision}`] },
            changes: [{ op: 'put', name: 'counter', json: String(Number(now.text) + 1) }],
          }),
        );
        if (outcome === 'made') return;
        if (outcome !== 'precondition_failed') throw new Error(outcome);
      }
    };
    await Promise.all(
      Array.from({ length: 10 }, async (_, index) => {
        for (let round = 0; round < 20; round += 1) await increment(index);
      }),
    );
    expect((await nodes.node.store.readDocument('counter'))?.text).toBe('200');
    expect(await verify(nodes.node)).toMatchObject({ ok: true });
  });
});
