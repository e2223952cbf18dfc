import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { createRoundTripCheck } from '../../src/object-store/check.ts';

const { signal } = new AbortController();

/** Keeps objects in memory. Deletes them only if `mayDelete`, and returns other bytes if `isDamaging`. */
function createMemoryStore() {
  const objects = new Map<string, Buffer>();
  const state = { objects, mayDelete: true, isDamaging: false, mayRead: true };
  const check = createRoundTripCheck({
    put: async (name, content) => objects.set(name, await buffer(content)),
    get: async (name) => {
      if (!state.mayRead) throw new Error('may not read');
      await nextTurn();
      if (!objects.has(name)) throw new Error('missing');
      return Readable.from([state.isDamaging ? Buffer.from('other') : objects.get(name)]);
    },
    delete: async (name) => {
      if (!state.mayDelete) throw new Error('may not delete');
      objects.delete(name);
    },
  });
  return Object.assign(state, { check });
}

test('a store that deletes nothing gets one object, however often it is checked', async () => {
  const store = createMemoryStore();
  store.mayDelete = false;
  for (let round = 0; round < 5; round += 1) await expect(store.check(signal)).rejects.toThrow('may not delete');
  expect(store.objects.size).toBe(1);
  store.mayDelete = true;
  await store.check(signal);
  expect(store.objects.size).toBe(0);
});

test('a store that can neither be read nor deleted from gets one object, too', async () => {
  const store = createMemoryStore();
  Object.assign(store, { mayDelete: false, mayRead: false });
  await expect(store.check(signal)).rejects.toThrow('may not read');
  await expect(store.check(signal)).rejects.toThrow('may not delete');
  expect(store.objects.size).toBe(1);
});

test('other bytes than were written are reported, and deleted', async () => {
  const store = createMemoryStore();
  store.isDamaging = true;
  await expect(store.check(signal)).rejects.toMatchObject({
    code: 'store_failed',
    message: expect.stringContaining('.check.'),
  });
  expect(store.objects.size).toBe(0);
});

test('checks at the same time do not delete the objects of each other', async () => {
  const store = createMemoryStore();
  for (let round = 0; round < 5; round += 1) await Promise.all([1, 2, 3].map(() => store.check(signal)));
  expect(store.objects.size).toBe(0);
});
