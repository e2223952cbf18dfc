import { describe, expect, test } from 'vitest';
import { captureText, scan } from '../../setup/values/json-samples.ts';

const accepted: [json: string, text: string][] = [
  ['{}', '{}'],
  ['[]', '[]'],
  [' \t\r\n[ \n]\t ', '[]'],
  ['{ }', '{}'],
  ['true', 'true'],
  [' false ', 'false'],
  ['null', 'null'],
  ['0', '0'],
  ['-0', '0'],
  ['-0.0', '0'],
  ['1.0', '1'],
  ['1e2', '100'],
  ['1E+2', '100'],
  ['1e-2', '0.01'],
  ['-1', '-1'],
  ['123456789', '123456789'],
  ['1e21', '1e+21'],
  ['0e9', '0'],
  ['""', '""'],
  ['"a"', '"a"'],
  ['"\\u0061"', '"a"'],
  ['"\\/"', '"/"'],
  ['"\\\\"', '"\\\\"'],
  ['"\\""', '"\\""'],
  ['"\\b\\f\\n\\r\\t"', '"\\b\\f\\n\\r\\t"'],
  ['"\\u000a\\u000A"', '"\\n\\n"'],
  ['"\\u0001\\u001F"', '"\\u0001\\u001f"'],
  ['"\\u0022\\u005c"', '"\\"\\\\"'],
  ['"\u007f"', '"\u007f"'],
  ['"\\u007f"', '"\u007f"'],
  ['"é漢😀"', '"é漢😀"'],
  ['"\\uD83D\\uDE00"', '"😀"'],
  ['"\\u00e9"', '"é"'],
  ['"\u2028"', '"\u2028"'],
  ['"\\uFFFF\\ufffe"', '"\uffff\ufffe"'],
  ['[1,2]', '[1,2]'],
  ['[ 1 , 2 ]', '[1,2]'],
  ['[[],{},[{}]]', '[[],{},[{}]]'],
  ['[null,true,false]', '[null,true,false]'],
  ['{"a":1}', '{"a":1}'],
  ['{"a" : 1 , "b" : [ ] }', '{"a":1,"b":[]}'],
  ['{"":""}', '{"":""}'],
  ['{"__proto__":{"a":1}}', '{"__proto__":{"a":1}}'],
  ['{"b":1,"a":2}', '{"b":1,"a":2}'],
  ['{"a":{"a":{"a":1}}}', '{"a":{"a":{"a":1}}}'],
  ['[{"a":1},{"a":2}]', '[{"a":1},{"a":2}]'],
  ['{"a\\u0062":1}', '{"ab":1}'],
  ['[0.1,1e-7]', '[0.1,1e-7]'],
  ['[100000000000000000000]', '[100000000000000000000]'],
];

describe('the scanner accepts JSON', () => {
  test.each(accepted)('%j', (json, text) => {
    expect(captureText(json).values?.[0]?.text).toBe(text);
  });
});

const refused: [json: string, code: string, offset: number][] = [
  ['', 'invalid_json', 0],
  ['  ', 'invalid_json', 2],
  ['\ufeff{}', 'invalid_json', 0],
  ['{', 'invalid_json', 1],
  ['[', 'invalid_json', 1],
  ['}', 'invalid_json', 0],
  [']', 'invalid_json', 0],
  ['[}', 'invalid_json', 1],
  ['{]', 'invalid_json', 1],
  ['[1', 'invalid_json', 2],
  ['[1,', 'invalid_json', 3],
  ['[1,]', 'invalid_json', 3],
  ['[,1]', 'invalid_json', 1],
  ['[1 2]', 'invalid_json', 3],
  ['[1,,2]', 'invalid_json', 3],
  ['[1}', 'invalid_json', 2],
  ['{"a":1]', 'invalid_json', 6],
  ['{"a"}', 'invalid_json', 4],
  ['{"a":}', 'invalid_json', 5],
  ['{"a":1,}', 'invalid_json', 7],
  ['{,}', 'invalid_json', 1],
  ['{a:1}', 'invalid_json', 1],
  ["{'a':1}", 'invalid_json', 1],
  ['{1:1}', 'invalid_json', 1],
  ['{"a" 1}', 'invalid_json', 5],
  ['{"a"::1}', 'invalid_json', 5],
  ['{"a":1 "b":2}', 'invalid_json', 7],
  ['{"a":1,,"b":2}', 'invalid_json', 7],
  ['1 2', 'invalid_json', 2],
  ['{}{}', 'invalid_json', 2],
  ['{}x', 'invalid_json', 2],
  ['[]]', 'invalid_json', 2],
  ['""""', 'invalid_json', 2],
  ['tru', 'invalid_json', 3],
  ['trux', 'invalid_json', 3],
  ['True', 'invalid_json', 0],
  ['nul]', 'invalid_json', 3],
  ['truefalse', 'invalid_json', 4],
  ['[falsy]', 'invalid_json', 5],
  ['NaN', 'invalid_json', 0],
  ['Infinity', 'invalid_json', 0],
  ['-Infinity', 'invalid_json', 1],
  ['undefined', 'invalid_json', 0],
  ['+1', 'invalid_json', 0],
  ['01', 'invalid_json', 1],
  ['-01', 'invalid_json', 2],
  ['.5', 'invalid_json', 0],
  ['[1.]', 'invalid_json', 3],
  ['1.', 'invalid_json', 2],
  ['[1e]', 'invalid_json', 3],
  ['[1e+]', 'invalid_json', 4],
  ['-', 'invalid_json', 1],
  ['[-]', 'invalid_json', 2],
  ['0x10', 'invalid_json', 1],
  ['1_000', 'invalid_json', 1],
  ['1.2.3', 'invalid_json', 3],
  ['[1a]', 'invalid_json', 2],
  ['// a', 'invalid_json', 0],
  ['[1/*a*/]', 'invalid_json', 2],
  ['#', 'invalid_json', 0],
  ['"a', 'invalid_json', 2],
  ['"a\\', 'invalid_json', 3],
  ['"\\u12', 'invalid_json', 5],
  ['"\\x41"', 'invalid_json', 2],
  ['"\\\'"', 'invalid_json', 2],
  ['"\\u12g4"', 'invalid_json', 5],
  ['"\\U0041"', 'invalid_json', 2],
  ['"\n"', 'invalid_json', 1],
  ['"a\tb"', 'invalid_json', 2],
  ['"\0"', 'invalid_json', 1],
  ['"\x1f"', 'invalid_json', 1],
  ['{"a\n":1}', 'invalid_json', 3],
  ["'a'", 'invalid_json', 0],
  ['\u00a0{}', 'invalid_json', 0],
  ['[\v1]', 'invalid_json', 1],
  ['[\f]', 'invalid_json', 1],
  ['{"a":1}\0', 'invalid_json', 7],
  ['"\\u0000"', 'invalid_string', 1],
  ['{"\\u0000":1}', 'invalid_string', 2],
  ['"\\ud800"', 'invalid_string', 1],
  ['"a\\udc00"', 'invalid_string', 2],
  ['"\\ud800x"', 'invalid_string', 1],
  ['"\\ud800\\n"', 'invalid_string', 1],
  ['"\\ud800\\ud800"', 'invalid_string', 1],
  ['"\\ud800\\u0041"', 'invalid_string', 1],
  ['{"\\udfff":1}', 'invalid_string', 2],
  ['"\\ude00\\ud83d"', 'invalid_string', 1],
  ['12345678901234567890', 'invalid_number', 0],
  ['[1,1e400]', 'invalid_number', 3],
  ['[1e-400]', 'invalid_number', 1],
  ['{"a":9007199254740993}', 'invalid_number', 5],
  ['{"a":1,"a":1}', 'duplicate_member', 7],
  ['{"a":1,"\\u0061":1}', 'duplicate_member', 7],
  ['{"\\/":1,"/":1}', 'duplicate_member', 8],
  ['{"é":1,"\\u00E9":1}', 'duplicate_member', 8],
  ['{"":1,"":1}', 'duplicate_member', 6],
  ['[{"x":{"a":1,"b":2,"a":3}}]', 'duplicate_member', 19],
  ['{"__proto__":1,"__proto__":2}', 'duplicate_member', 15],
];

describe('the scanner refuses other texts with code and offset', () => {
  test.each(refused)('%j', (json, code, offset) => {
    expect(captureText(json).error).toMatchObject({ code, offset });
  });

  test.each(refused.filter(([, code]) => code === 'invalid_json'))('%j is refused by JSON.parse too', (json) => {
    expect(() => JSON.parse(json)).toThrow();
  });

  test.each(refused.filter(([, code]) => code === 'invalid_json'))(
    '%j is also refused when it is skipped',
    (json, code, offset) => {
      const outcome = scan([Buffer.from(json)], () => ({ kind: 'skip', maxDepth: 64 }));
      expect(outcome.error).toMatchObject({ code, offset });
    },
  );
});

describe('the scanner refuses invalid UTF-8 at the start of the character', () => {
  const broken: [name: string, bytes: number[], offset: number][] = [
    ['a continuation byte alone', [0x80], 2],
    ['an overlong slash', [0xc0, 0xaf], 2],
    ['an overlong NUL', [0xc0, 0x80], 2],
    ['an overlong form of three bytes', [0xe0, 0x9f, 0xbf], 2],
    ['an overlong form of four bytes', [0xf0, 0x8f, 0xbf, 0xbf], 2],
    ['a surrogate', [0xed, 0xa0, 0x80], 2],
    ['a code point beyond U+10FFFF', [0xf4, 0x90, 0x80, 0x80], 2],
    ['the byte 0xfe', [0xfe], 2],
    ['a truncated sequence', [0xe6, 0xbc], 2],
    ['a truncated sequence after a valid one', [0xc3, 0xa9, 0xc3], 4],
    ['Latin-1', [0xe9, 0x61], 2],
  ];
  test.each(broken)('%s', (_name, bytes, offset) => {
    const value = Buffer.from([0x5b, 0x22, ...bytes, 0x22, 0x5d]);
    expect(scan([value], (onValue) => ({ kind: 'capture', maxBytes: 99, maxDepth: 9, onValue })).error).toMatchObject({
      code: 'invalid_utf8',
      pointer: '/0',
      offset,
    });
    const name = Buffer.concat([Buffer.from('{'), value.subarray(1, -1), Buffer.from(':1}')]);
    expect(scan([name], (onValue) => ({ kind: 'capture', maxBytes: 99, maxDepth: 9, onValue })).error).toMatchObject({
      code: 'invalid_utf8',
      offset,
    });
    expect(scan([value], () => ({ kind: 'skip', maxDepth: 9 })).error).toMatchObject({ code: 'invalid_utf8', offset });
  });

  test('a byte outside every token is a syntax error', () => {
    expect(scan([Buffer.from([0x5b, 0xff, 0x5d])], () => ({ kind: 'skip', maxDepth: 9 })).error).toMatchObject({
      code: 'invalid_json',
      offset: 1,
    });
  });
});

describe('an incomplete text is distinguished from an invalid one', () => {
  test.each([
    '{',
    '[',
    '[1',
    '[1,',
    '[12345678901234567890',
    '"a',
    '"\\',
    '"\\u0',
    '"\\ud83d',
    '{"a',
    '{"a"',
    '{"a":',
    '{"a":1',
    'tr',
    '-',
    '1.',
    '1e',
    '[[]',
    '[-',
  ])('%s', (json) => {
    expect(captureText(json).error).toMatchObject({ code: 'invalid_json', truncated: true, offset: json.length });
  });

  test.each(['', '  ', '[1.2.', '[}', 'trx', '[01', '"\\x'])('%j is invalid, not incomplete', (json) => {
    expect(captureText(json).error).toMatchObject({ code: 'invalid_json', truncated: false });
  });

  test('a text that ends inside a character is incomplete', () => {
    expect(scan([Buffer.from([0x22, 0xe6, 0xbc])], () => ({ kind: 'skip', maxDepth: 9 })).error).toMatchObject({
      truncated: true,
      offset: 3,
    });
  });
});
