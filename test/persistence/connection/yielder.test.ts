import { expect, it } from 'vitest';
import { createPoliteYielder } from '../../../src/persistence/connection/yielder.ts';

const CHUNK = 256 * 1024;

/** Runs a yielder whose turns take these times, and returns what it slept after each. */
async function sleepsAfter(turnsMs: number[]): Promise<number[]> {
  let nowMs = 0;
  const slept: number[] = [];
  const turns = turnsMs.values();
  const yieldAfter = createPoliteYielder({
    now: () => nowMs,
    nextTurn: async () => {
      nowMs += turns.next().value ?? 0;
    },
    sleep: async (ms) => {
      slept[slept.length - 1] = ms;
    },
  });
  for (let turn = 0; turn < turnsMs.length; turn += 1) {
    slept.push(0);
    await yieldAfter(CHUNK);
  }
  return slept;
}

it('a long stream gives way while the node is busy, and not without other requests', async () => {
  expect(await sleepsAfter([0, 0.2, 0.9])).toEqual([0, 0, 0]);
  const [quiet, ...busy] = await sleepsAfter([0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
  expect(quiet).toBe(0);
  expect(busy.map((ms) => ms > 0)).toEqual([true, true, true, true, true, true, true, true, false]);
});

it('a long stream yields once for many small chunks', () => {
  const yieldAfter = createPoliteYielder();
  expect(yieldAfter(CHUNK - 1)).toBeUndefined();
  expect(yieldAfter(1)).toBeInstanceOf(Promise);
});
