import { describe, expect, test } from 'vitest';
import { readPrecondition } from '../../../src/http/request/entity-tags.ts';

/** Reads one list under both headers: `ifMatch` leaves out weak tags, `ifNoneMatch` has all. */
const read = (text: string) => readPrecondition({ 'if-match': text, 'if-none-match': text }, null);

describe('an entity tag list', () => {
  test.each([
    ['*', '*', '*'],
    [' * ', '*', '*'],
    ['"a"', ['a'], ['a']],
    ['""', [''], ['']],
    ['"*"', ['*'], ['*']],
    ['W/"a"', ['a'], []],
    ['"a,b"', ['a,b'], ['a,b']],
    ['"a\\"', ['a\\'], ['a\\']],
    ['"\u00e9"', ['\u00e9'], ['\u00e9']],
    ['"a" , ,W/"b",', ['a', 'b'], ['a']],
    [',"a",\t"b"', ['a', 'b'], ['a', 'b']],
  ])('%j has the tags %j, of which %j are strong', (text, all, strong) => {
    expect(read(text)).toEqual({ document: null, ifMatch: strong, ifNoneMatch: all });
  });

  test.each([
    '',
    ',',
    'a',
    '"a',
    'a"',
    '"a" "b"',
    '"a"b',
    'w/"a"',
    'W/ "a"',
    '"a b"',
    '*, "a"',
    '"a", *',
    "'a'",
    '"a"\u0000',
  ])('%j is refused', (text) => {
    for (const header of ['if-match', 'if-none-match']) {
      const fault = expect.objectContaining({ code: 'invalid_parameter' });
      expect(() => readPrecondition({ [header]: text }, null)).toThrow(fault);
    }
  });

  test('with thousands of tags is read without backtracking', () => {
    const many = Array.from({ length: 5000 }, () => '"a"').join(', ,');
    expect(read(many)?.ifMatch).toHaveLength(5000);
    expect(() => read(`"a"${' ,'.repeat(8000)}x`)).toThrow();
  });
});
