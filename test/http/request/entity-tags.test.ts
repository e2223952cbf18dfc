import { describe, expect, test } from 'vitest';
import { parseEntityTags } from '../../../src/http/request/entity-tags.ts';

describe('an entity tag list', () => {
  test.each([
    ['*', '*'],
    [' * ', '*'],
    ['"a"', [{ weak: false, opaque: 'a' }]],
    ['""', [{ weak: false, opaque: '' }]],
    ['"*"', [{ weak: false, opaque: '*' }]],
    ['W/"a"', [{ weak: true, opaque: 'a' }]],
    ['"a,b"', [{ weak: false, opaque: 'a,b' }]],
    ['"a\\"', [{ weak: false, opaque: 'a\\' }]],
    ['"\u00e9"', [{ weak: false, opaque: '\u00e9' }]],
    [
      '"a" , ,W/"b",',
      [
        { weak: false, opaque: 'a' },
        { weak: true, opaque: 'b' },
      ],
    ],
    [
      ',"a",\t"b"',
      [
        { weak: false, opaque: 'a' },
        { weak: false, opaque: 'b' },
      ],
    ],
  ])('%j is understood', (text, tags) => {
    expect(parseEntityTags(text, 'If-Match')).toEqual(tags);
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
    expect(() => parseEntityTags(text, 'If-Match')).toThrow(expect.objectContaining({ code: 'invalid_parameter' }));
  });

  test('of thousands of tags takes no time to speak of', () => {
    expect(parseEntityTags(Array.from({ length: 5000 }, () => '"a"').join(', ,'), 'If-Match')).toHaveLength(5000);
    expect(() => parseEntityTags(`"a"${' ,'.repeat(8000)}x`, 'If-Match')).toThrow();
  });
});
