/** Names that some layer between curl and PostgreSQL could misread. */
export const oddNames = [
  'with space',
  'with/slash',
  '/leading//slashes/',
  'a?b#c&d=e',
  '100%',
  '%2F%2e%2e',
  '...',
  '__proto__',
  'constructor',
  'toString',
  '😀 emoji 👩‍👩‍👧',
  'ünïcödé',
  '"quoted" \\ and \'so on\'',
  'null',
  '0',
  '漢'.repeat(170).concat('ab'),
];

const FILLER = 'Lorem ipsum 😀 "dolor" \\ sit\n'.repeat(640);

/** Returns an unusual document of about 20 KB, as a text: in an object literal, `__proto__` sets the prototype. */
export function oddDocument(index: number): string {
  return `{"index":${index},"__proto__":{"polluted":${index}},"constructor":{"prototype":null},"":"","empty":{"":{},"list":[]},
    "numbers":[1e21,1e-7,-0.5,0.1,5e-324,1.7976931348623157e308,9007199254740991,1.0,-0],"emoji 😀":"\\ud83d\\ude00",
    "escapes":"\\u0001\\u001f\\u007f\\u2028\\/\\b","nested":{"keep":{"a":1},"drop":{"b":2},"replace":[1,{"c":3}]},
    "filler":${JSON.stringify(FILLER)}}`;
}

/** Returns a merge patch (RFC 7396) that changes the odd document on several levels. */
export const oddPatch =
  '{"nested":{"drop":null,"keep":{"__proto__":{"deep":true},"a":null},"replace":{"d":[null]}},"":"not empty","new 😀":{"x":null,"y":1e21}}';
