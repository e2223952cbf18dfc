import fc from 'fast-check';

/** Number of surrogates, which lie in one range of the code points and are no characters. */
const SURROGATES = 0x800;

/**
 * Any Unicode character. It stands for the unit `binary` of fast-check, whose table of all characters takes more than a
 * second to build in each process, and lengthens every later collection.
 */
export const anyCharacter = fc
  .integer({ min: 0, max: 0x10ffff - SURROGATES })
  .map((index) => String.fromCodePoint(index < 0xd800 ? index : index + SURROGATES), indexOfCharacter);

function indexOfCharacter(value: unknown): number {
  const [character = '', ...others] = typeof value === 'string' ? value : '';
  const code = character.codePointAt(0);
  if (code === undefined || others.length > 0 || !character.isWellFormed()) throw new Error('not one character');
  return code < 0xd800 ? code : code - SURROGATES;
}

/** Any text that LOOM can store: all characters except NUL and lone surrogates. */
const storableText = fc
  .oneof(
    { weight: 4, arbitrary: fc.string({ unit: anyCharacter, maxLength: 12 }) },
    { weight: 2, arbitrary: fc.string({ maxLength: 12 }) },
    fc.constantFrom(
      '',
      '__proto__',
      'constructor',
      'toString',
      '\u0001',
      '\u007f',
      '\u0085',
      '\u2028',
      '\ufeff',
      '\\N',
      '\\.',
      '"',
      '🧵',
      '\u{10ffff}',
    ),
  )
  .map((text) => text.replaceAll('\u0000', '0'));

/** JSON texts of doubles, including unusual ones. */
const numberText = fc
  .oneof(
    fc.double({ noNaN: true, noDefaultInfinity: true }),
    fc.maxSafeInteger(),
    fc.constantFrom(
      0,
      1,
      -1,
      5e-324,
      -5e-324,
      2.2250738585072014e-308,
      Number.MAX_VALUE,
      -Number.MAX_VALUE,
      1e21,
      1e-7,
      0.1,
      2 ** 53,
    ),
  )
  .map((value) => JSON.stringify(value));

/** The text of any JSON value. Only `JSON.parse` of a text reliably creates a member called `__proto__`. */
export const jsonText: fc.Arbitrary<string> = fc.letrec<{ value: string }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 4, depthSize: 'small' },
    numberText,
    storableText.map((text) => JSON.stringify(text)),
    fc.constantFrom('null', 'true', 'false', '{}', '[]'),
    fc.array(tie('value'), { maxLength: 4 }).map((elements) => `[${elements.join()}]`),
    objectText(tie('value')),
  ),
})).value;

function objectText(value: fc.Arbitrary<string>): fc.Arbitrary<string> {
  return fc
    .uniqueArray(fc.tuple(storableText, value), { maxLength: 4, selector: ([name]) => name })
    .map((members) => `{${members.map(([name, text]) => `${JSON.stringify(name)}:${text}`).join()}}`);
}

/** A valid document name. */
export const documentName = storableText
  // biome-ignore lint/suspicious/noControlCharactersInRegex: names have no control characters
  .map((text) => text.replaceAll(/[\u0000-\u001f\u007f-\u009f]/g, '_'))
  .map((text) => (text === '' || text === '.' || text === '..' ? 'name' : text));
