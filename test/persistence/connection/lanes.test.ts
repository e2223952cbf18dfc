import { describe, expect, test } from 'vitest';
import { createLanes, type Lane } from '../../../src/persistence/connection/lanes.ts';
import { outcomeOf } from '../../setup/node/nodes.ts';

/** Divides a pool among borrowers that keep their connection until the test returns it. */
function start(poolMax: number, streamsMax: number, waitMs = 60_000) {
  const lanes = createLanes({ poolMax, streamsMax, waitMs });
  const admitted: string[] = [];
  const returns = new Map<string, () => void>();
  const borrow = (lane: Lane, name: string = lane, signal?: AbortSignal): Promise<string> =>
    outcomeOf(
      lanes.inTurn(
        lane,
        () => {
          admitted.push(name);
          return new Promise<void>((resolve) => returns.set(name, resolve));
        },
        signal,
      ),
    );
  const giveBack = async (name: string): Promise<void> => {
    returns.get(name)?.();
    await settled();
  };
  return { lanes, admitted, borrow, giveBack };
}

const settled = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));

/** Returns how many borrowers of the lane are admitted at once. */
async function capacity(poolMax: number, streamsMax: number, lane: Lane): Promise<number> {
  const { admitted, borrow } = start(poolMax, streamsMax);
  for (let index = 0; index < 50; index += 1) void borrow(lane, `${lane} ${index}`);
  await settled();
  return admitted.length;
}

describe('the lanes of a pool', () => {
  test.each([
    [3, 1, { client: 1, operator: 1, read: 2 }],
    [4, 2, { client: 1, operator: 2, read: 3 }],
    [10, 5, { client: 4, operator: 4, read: 9 }],
    [10, 8, { client: 7, operator: 7, read: 9 }],
    [10, 1, { client: 1, operator: 1, read: 9 }],
  ] as const)('of %i connections, %i for streams, admit each kind up to its share', async (max, streams, expected) => {
    for (const [lane, count] of Object.entries(expected)) {
      expect([lane, await capacity(max, streams, lane as Lane)]).toEqual([lane, count]);
    }
  });

  test.each([3, 4, 5, 10, 200])('of %i connections leave one to reads and one to commits', async (poolMax) => {
    const { lanes, admitted, borrow } = start(poolMax, poolMax - 2);
    for (let index = 0; index < 2 * poolMax; index += 1) {
      void borrow('client', 'stream');
      void borrow('operator', 'stream');
    }
    await settled();
    expect(admitted).toHaveLength(poolMax - 2);
    expect(lanes.streams()).toEqual({ used: poolMax - 2, max: poolMax - 2 });
    void borrow('read');
    void borrow('read', 'second read');
    void borrow('commit');
    await settled();
    expect(admitted.slice(poolMax - 2)).toEqual(['read', 'commit']);
  });

  test('leave one connection of the share to operators, and one of three or more to clients', async () => {
    const { admitted, borrow, giveBack } = start(10, 3);
    for (const name of ['c1', 'c2', 'c3']) void borrow('client', name);
    void borrow('operator', 'o1');
    await settled();
    expect(admitted).toEqual(['c1', 'c2', 'o1']);
    await giveBack('c1');
    await giveBack('c2');
    for (const name of ['o2', 'o3']) void borrow('operator', name);
    await settled();
    expect(admitted).toEqual(['c1', 'c2', 'o1', 'c3', 'o2']);
  });

  test('admit operators first, and others in the order of arrival', async () => {
    const { admitted, borrow, giveBack } = start(3, 1);
    for (const name of ['c1', 'c2', 'c3']) void borrow('client', name);
    void borrow('operator', 'o1');
    await settled();
    for (const name of ['c1', 'o1', 'c2', 'c3']) await giveBack(name);
    expect(admitted).toEqual(['c1', 'o1', 'c2', 'c3']);
  });

  test('refuse after the wait, with the number and a time to retry, and forget the request', async () => {
    const { lanes, borrow, giveBack } = start(4, 2, 20);
    const first = borrow('client', 'c1');
    const refused = lanes.inTurn('client', async () => undefined);
    await expect(refused).rejects.toMatchObject({
      code: 'streams_busy',
      status: 503,
      retryAfterSeconds: expect.any(Number),
      message: expect.stringContaining('at most 1 of its connections'),
    });
    expect(lanes.waiting()).toBe(0);
    await giveBack('c1');
    expect(await first).toBe('made');
    expect(lanes.streams().used).toBe(0);
  });

  test('refuse a read with database_unavailable when no connection becomes free', async () => {
    const { borrow } = start(3, 1, 20);
    void borrow('read', 'r1');
    void borrow('read', 'r2');
    expect(await borrow('read', 'r3')).toBe('database_unavailable');
  });

  test('forget a client that disconnects while it waits', async () => {
    const { lanes, admitted, borrow, giveBack } = start(3, 1);
    const controller = new AbortController();
    void borrow('client', 'c1');
    const gone = borrow('client', 'c2', controller.signal);
    void borrow('client', 'c3');
    controller.abort();
    expect(await gone).toBe('client_gone');
    expect(await borrow('client', 'c4', controller.signal)).toBe('client_gone');
    await giveBack('c1');
    expect(admitted).toEqual(['c1', 'c3']);
    expect(lanes.waiting()).toBe(0);
  });

  test('return the connection of a borrower that fails', async () => {
    const { lanes } = start(3, 1);
    for (let round = 0; round < 3; round += 1) {
      const failed = lanes.inTurn('operator', () => Promise.reject(new Error('failed')));
      await expect(failed).rejects.toThrow('failed');
    }
    expect(lanes.streams().used).toBe(0);
  });
});
