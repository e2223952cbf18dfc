import fc from 'fast-check';
import { expect, test } from 'vitest';
import { completePrefix } from './prefix.ts';

test('each beginning of a JSON text is completed to a part of its value', () => {
  fc.assert(
    fc.property(fc.object(), fc.nat(), (value, length) => {
      const text = JSON.stringify(value);
      const part = completePrefix(text.slice(0, (length % text.length) + 1));
      expect(isPart(part, JSON.parse(text))).toBe(true);
    }),
  );
});

test.each([
  ['', undefined],
  ['"a', undefined],
  ['{"a', {}],
  ['{"a":[1,{"b":"],}\\"","c":', { a: [1, { b: '],}"' }] }],
  ['[1,2', [1]],
  ['[1,2]', [1, 2]],
])('%s', (text, completed) => {
  expect(completePrefix(text)).toEqual(completed);
});

function isPart(part: unknown, whole: unknown): boolean {
  if (typeof part !== 'object' || part === null) return Object.is(part, whole);
  return Object.entries(part).every(([name, one]) => isPart(one, Reflect.get(Object(whole), name)));
}
