import { describe, expect, it } from 'vitest';
import { parseSelectedName, selectedNameFault } from '../../../src/backup/check/selection.ts';
import { limits } from '../../../src/limits.ts';

describe('an element of "documents"', () => {
  it.each([
    ['prices', 'prices', false],
    ['stock/*', 'stock/', true],
    ['*', '', true],
    ['**', '*', false],
    ['***', '*', true],
    ['a**', 'a*', false],
    ['a***', 'a*', true],
    ['a****', 'a**', false],
    ['a*b', 'a*b', false],
    ['**a', '**a', false],
    ['*a*', '*a', true],
  ])('%s selects %s, as a prefix: %s', (element, text, isPrefix) => {
    expect(parseSelectedName(element)).toEqual({ text, isPrefix });
    expect(selectedNameFault(element)).toBeUndefined();
  });

  it.each(['', '.', '..', 'a\u0000', 'a\u0007*', '\ud800', `${'é'.repeat(limits.maxDocumentNameBytes / 2)}a`])(
    'is refused if no document has such a name: %j',
    (element) => {
      expect(selectedNameFault(element)).toBeDefined();
    },
  );

  it.each(['.*', '..*', '*'.repeat(2 * limits.maxDocumentNameBytes), `${'a'.repeat(limits.maxDocumentNameBytes)}*`])(
    'is accepted if a document may have such a name: %.10s',
    (element) => {
      expect(selectedNameFault(element)).toBeUndefined();
    },
  );
});
