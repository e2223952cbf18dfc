/** Names that something between curl and PostgreSQL could take for something else. */
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

/** Text of a document of about 20 KB that has every oddity in it. As text: `__proto__` must stand in it as a member. */
export function oddDocument(index: number): string {
  return `{"index":${index},"__proto__":{"polluted":${index}},"constructor":{"prototype":null},"":"","empty":{"":{},"list":[]},
    "numbers":[1e21,1e-7,-0.5,0.1,5e-324,1.7976931348623157e308,9007199254740991,1.0,-0],"emoji 😀":"\\ud83d\\ude00",
    "escapes":"\\u0001\\u001f\\u007f\\u2028\\/\\b","nested":{"keep":{"a":1},"drop":{"b":2},"replace":[1,{"c":3}]},
    "filler":${JSON.stringify(FILLER)}}`;
}

/** A merge patch (RFC 7396) for it that changes it on several levels. */
export const oddPatch =
  '{"nested":{"drop":null,"keep":{"__proto__":{"deep":true},"a":null},"replace":{"d":[null]}},"":"not empty","new 😀":{"x":null,"y":1e21}}';
