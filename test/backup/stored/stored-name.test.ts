import fc from 'fast-check';
import { expect, test } from 'vitest';
import {
  makeStoredName,
  manifestNameOf,
  parseStoredName,
  storedNamePrefix,
} from '../../../src/backup/stored/stored-name.ts';
import { limits } from '../../../src/limits.ts';

const takenAt = '2026-01-31T23:59:59.012345Z';

test('a name', () => {
  const name = makeStoredName({ stateKey: 'shop-eu/1', takenAt, revision: 42, encrypted: true });
  expect(name).toBe('loom-shop%2Deu%2F1-20260131T235959.012Z-r42.json.gz.age');
  expect(parseStoredName(name)).toEqual({
    stateKey: 'shop-eu/1',
    takenAt: '2026-01-31T23:59:59.012Z',
    revision: 42,
    encrypted: true,
  });
  expect(manifestNameOf(name)).toBe(`${name}.manifest.json`);
});

test('every state key makes a name that a store accepts and that only this key has', () => {
  const keys = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 40 }).filter((key) => key.isWellFormed());
  fc.assert(
    fc.property(keys, keys, fc.nat(), fc.boolean(), (stateKey, other, revision, encrypted) => {
      const name = makeStoredName({ stateKey, takenAt, revision, encrypted });
      expect(manifestNameOf(name).length).toBeLessThanOrEqual(limits.maxObjectNameCharacters);
      expect(manifestNameOf(name)).toMatch(/^[\w%~-][\w.%~-]*$/);
      const parsed = parseStoredName(name);
      expect([stateKey, undefined]).toContain(parsed?.stateKey);
      expect(parsed).toMatchObject({ revision, encrypted });
      expect(name.startsWith(storedNamePrefix(stateKey))).toBe(true);
      if (other !== stateKey) expect(name.startsWith(storedNamePrefix(other))).toBe(false);
    }),
  );
});

test('long keys that begin alike have different names', () => {
  const [one, other] = ['a', 'b'].map((end) =>
    makeStoredName({ stateKey: `${'ä'.repeat(60)}${end}`, takenAt, revision: 2 ** 52, encrypted: true }),
  );
  expect(one).not.toBe(other);
  expect(manifestNameOf(one ?? '').length).toBeLessThanOrEqual(limits.maxObjectNameCharacters);
  expect(parseStoredName(one ?? '')).toMatchObject({ stateKey: undefined, revision: 2 ** 52 });
});

test('names of a state sort by time', () => {
  const times = ['2026-01-31T23:59:59.012345Z', '2026-02-01T00:00:00.000000Z', '2026-10-01T00:00:00.999Z'];
  const names = times.map((time) => makeStoredName({ stateKey: 'a', takenAt: time, revision: 1, encrypted: false }));
  expect(names.toSorted()).toEqual(names);
});

test.each([
  'loom-a-20260131T235959.012Z-r42.json',
  'loom-a-20260131T235959.012Z-r042.json.gz',
  'loom-a-20260231T235959.012Z-r1.json.gz',
  'loom-a-b-20260131T235959.012Z-r1.json.gz',
  'loom-a%2f-20260131T235959.012Z-r1.json.gz',
  'loom-%-20260131T235959.012Z-r1.json.gz',
  'loom-a-20260131T235959.012Z-r1.json.gz.age.manifest.json',
  'x-loom-a-20260131T235959.012Z-r1.json.gz',
])('%s is no name of a stored backup', (name) => {
  expect(parseStoredName(name)).toBeUndefined();
});

test('refuses a time that makes no name', () => {
  expect(() => makeStoredName({ stateKey: 'a', takenAt: 'yesterday', revision: 1, encrypted: false })).toThrow('time');
});
