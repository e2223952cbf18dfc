import fc from 'fast-check';
import { expect, test } from 'vitest';
import { canonicalText } from '../../src/json/canonical.ts';
import { ElementCursor, endOfPart, MemberCursor } from '../../src/json/canonical-members.ts';
import { anyJson } from '../setup/values/json-samples.ts';

const longString = fc
  .tuple(fc.nat(200), fc.constantFrom('', '"', '\\', '\\"', 'é"'), fc.nat(100))
  .map(([before, odd, after]) => {
    return `${'a'.repeat(before)}${odd}${'b'.repeat(after)}${odd}`;
  });
const anyValue = fc.oneof(anyJson, longString);

test('the parts of a canonical text are those of its value', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.oneof(longString, fc.string()), anyValue), { maxLength: 5 }), (pairs) => {
      const value = Object.fromEntries(pairs.filter(([name]) => name.isWellFormed() && !name.includes('\0')));
      const object = Buffer.from(canonicalText(value));
      expect(endOfPart(object, 0)).toBe(object.length);
      const members = new MemberCursor(object, 1);
      const found: [string, unknown][] = [];
      while (members.next()) {
        found.push([JSON.parse(object.toString('utf8', members.nameStart, members.nameEnd)), members.readValue()]);
      }
      expect(Object.fromEntries(found)).toEqual(value);
      const array = Buffer.from(canonicalText(Object.values(value)));
      const elements = new ElementCursor(array, 0);
      const starts: string[] = [];
      while (elements.next()) starts.push(array.toString('utf8', elements.start, endOfPart(array, elements.start)));
      expect(starts).toEqual(Object.values(value).map(canonicalText));
    }),
  );
});
