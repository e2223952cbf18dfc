import { expect, it } from 'vitest';
import { createPoliteYielder } from '../../../src/persistence/connection/yielder.ts';

const CHUNK = 256 * 1024;

/**
 * Runs a yielder while so many other requests come in each turn of `turnMs`. Returns what it slept after each.
 */
async function sleepsAfter(requests: number[], { isPatient = false, turnMs = 1 } = {}): Promise<number[]> {
  let others = 0;
  let nowMs = 0;
  const slept: number[] = [];
  const turns = requests.values();
  const waits = {
    nextTurn: async () => {
      others += turns.next().value ?? 0;
      nowMs += turnMs;
    },
    sleep: async (ms: number) => {
      slept[slept.length - 1] = ms;
      nowMs += ms;
    },
    nowMs: () => nowMs,
  };
  const yieldAfter = createPoliteYielder(() => others, { isPatient, waits });
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

it('a patient stream pauses for twice the time that it has worked, and not for long after it has waited', async () => {
  const busy = [1, 1, 1];
  const [short = 0] = await sleepsAfter(busy);
  expect(await sleepsAfter(busy, { isPatient: true, turnMs: 3 })).toEqual([6, 6, 6]);
  expect(await sleepsAfter(busy, { isPatient: true, turnMs: 20 })).toEqual([40, 40, 40]);
  expect(await sleepsAfter(busy, { isPatient: true, turnMs: 30_000 })).toEqual([50, 50, 50]);
  expect(await sleepsAfter(busy, { turnMs: 30 })).toEqual([short, short, short]);
  expect(await sleepsAfter([0, 0], { isPatient: true, turnMs: 30 })).toEqual([0, 0]);
});

it('a long stream yields once for many small chunks', () => {
  const yieldAfter = createPoliteYielder(() => 0);
  expect(yieldAfter(CHUNK - 1)).toBeUndefined();
  expect(yieldAfter(1)).toBeInstanceOf(Promise);
});
