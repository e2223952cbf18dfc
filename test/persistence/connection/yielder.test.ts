import { expect, it } from 'vitest';
import { createPoliteYielder } from '../../../src/persistence/connection/yielder.ts';

const CHUNK = 256 * 1024;

/** Runs a yielder while so many other requests come in each turn, and returns what it slept after each. */
async function sleepsAfter(requests: number[]): Promise<number[]> {
  let others = 0;
  const slept: number[] = [];
  const turns = requests.values();
  const yieldAfter = createPoliteYielder(() => others, {
    nextTurn: async () => {
      others += turns.next().value ?? 0;
    },
    sleep: async (ms) => {
      slept[slept.length - 1] = ms;
    },
  });
  for (let turn = 0; turn < requests.length; turn += 1) {
    slept.push(0);
    await yieldAfter(CHUNK);
  }
  return slept;
}

it('a long stream gives way while other requests use the database, and not without them', async () => {
  expect(await sleepsAfter([0, 0, 0])).toEqual([0, 0, 0]);
  const slept = await sleepsAfter([0, 3, 1, 0, 0, 0]);
  expect(slept.map((ms) => ms > 0)).toEqual([false, true, true, true, false, false]);
});

it('a long stream yields once for many small chunks', () => {
  const yieldAfter = createPoliteYielder(() => 0);
  expect(yieldAfter(CHUNK - 1)).toBeUndefined();
  expect(yieldAfter(1)).toBeInstanceOf(Promise);
});
