import { describe, expect, test } from 'vitest';
import { LoomError } from '../../../src/errors.ts';
import { createJsonScanner } from '../../../src/json/scanner/scanner.ts';
import type { CapturedValue, ObjectVisit, Visit } from '../../../src/json/visit.ts';
import { limits } from '../../../src/limits.ts';
import { captureText, scan } from '../../setup/values/json-samples.ts';

const refuseOther = (type: string): never => {
  throw new LoomError('invalid_restore_request', `no ${type} here`);
};

describe('errors name the place', () => {
  test.each([
    ['{"a/b":[0,{"c~d":1e400}]}', 'invalid_number', '/a~1b/1/c~0d', 17],
    ['[[],[0,"\\ud800"]]', 'invalid_string', '/1/1', 8],
    ['{"x":{"a":1,"\\u0061":2}}', 'duplicate_member', '/x/a', 12],
    ['{"é\\u00e8":[1 2]}', 'invalid_json', '/éè/0', 15],
    ['{"a":1,"b" 2}', 'invalid_json', '/b', 11],
    ['{"a":1,}', 'invalid_json', '', 7],
    ['{"":{"":nul}}', 'invalid_json', '//', 11],
    ['[{"a":1},{"b":+1}]', 'invalid_json', '/1/b', 14],
    ['{"a":"\\"\\u0001","b\\"":x}', 'invalid_json', '/b"', 22],
  ])('%s', (json, code, pointer, offset) => {
    expect(captureText(json).error).toMatchObject({ code, pointer, offset });
  });

  test('a message quotes at most 40 characters of a number, and no control characters', () => {
    expect(captureText('9'.repeat(500)).error?.message).toContain(`${'9'.repeat(40)}…`);
    expect(captureText('9'.repeat(500)).error?.message).not.toContain('9'.repeat(41));
    expect(captureText('[\u001b]').error?.message).toContain('byte 0x1b');
  });
});

describe('limits', () => {
  test('a pointer through very long names is truncated', () => {
    const { error } = captureText(`{"${'n'.repeat(100_000)}":{"${'😀'.repeat(50_000)}":x}}`);
    expect(error).toMatchObject({ code: 'invalid_json', pointer: `/${'n'.repeat(limits.maxPointerCharacters - 1)}…` });
    const cutInPair = captureText(`{"${'😀'.repeat(50_000)}":x}`).error?.pointer ?? '';
    expect(Buffer.from(cutInPair).toString()).toBe(cutInPair);
  });

  test('the size is exactly that of the canonical text', () => {
    const json = '{ "a" : [1, 1e21, "\\u00e9"],\n\n"b":{} }';
    const canonical = '{"a": [1, 1000000000000000000000, "é"], "b": {}}';
    const size = Buffer.byteLength(canonical);
    expect(captureText(json, { maxBytes: size }).values?.[0]?.canonicalBytes).toBe(size);
    expect(captureText(json, { maxBytes: size - 1 }).error).toMatchObject({
      code: 'document_too_large',
      pointer: '',
      offset: 0,
    });
  });

  test('whitespace does not count', () => {
    expect(captureText(`${' '.repeat(10_000)}[${'\n'.repeat(10_000)}]`, { maxBytes: 2 }).values?.[0]?.text).toBe('[]');
  });

  test('a number with an exponent counts in its plain form', () => {
    expect(captureText(`[${'1e308,'.repeat(99)}1e308]`, { maxBytes: 30_000 }).error?.code).toBe('document_too_large');
    expect(captureText(`[${'1e308,'.repeat(99)}1e308]`, { maxBytes: 31_100 }).values?.[0]?.canonicalBytes).toBe(
      100 * 309 + 99 * 2 + 2,
    );
  });

  test('an endless string is refused at the limit', () => {
    const scanner = createJsonScanner({ kind: 'capture', maxBytes: 1000, maxDepth: 9, onValue: () => undefined });
    scanner.write(Buffer.from(`"${'x'.repeat(999)}`));
    expect(() => scanner.write(Buffer.from('x'))).toThrow(expect.objectContaining({ code: 'document_too_large' }));
  });

  test('the first of a fault and the exceeded limit is reported', () => {
    expect(captureText('["xxxxxxxxxx", nonsense]', { maxBytes: 5 }).error?.code).toBe('document_too_large');
    expect(captureText('[x, "xxxxxxxxxx"]', { maxBytes: 5 }).error?.code).toBe('invalid_json');
  });

  test('depth counts containers', () => {
    expect(captureText('1', { maxDepth: 0 }).values).toHaveLength(1);
    expect(captureText('[]', { maxDepth: 0 }).error).toMatchObject({ code: 'nested_too_deeply', offset: 0 });
    expect(captureText('{"a":[[],[]]}', { maxDepth: 3 }).values).toHaveLength(1);
    expect(captureText('{"a":[[],[{}]]}', { maxDepth: 3 }).error).toMatchObject({
      code: 'nested_too_deeply',
      pointer: '/a/1/0',
      offset: 10,
    });
  });

  test('a million brackets are refused at the limit', () => {
    expect(captureText('['.repeat(1_000_000), { maxDepth: 128 }).error).toMatchObject({
      code: 'nested_too_deeply',
      offset: 128,
    });
    expect(captureText('{"a":'.repeat(1_000_000), { maxDepth: 128 }).error).toMatchObject({
      code: 'nested_too_deeply',
      offset: 640,
    });
    const skipped = scan([Buffer.from('['.repeat(1_000_000))], () => ({ kind: 'skip', maxDepth: 128 }));
    expect(skipped.error).toMatchObject({ code: 'nested_too_deeply', offset: 128 });
  });

  test('a number with many zeros is accepted up to the limit', () => {
    expect(captureText(`[1.${'0'.repeat(limits.maxNumberBytes - 2)}]`).values?.[0]?.text).toBe('[1]');
    expect(captureText(`[1.${'0'.repeat(limits.maxNumberBytes - 1)}]`).error).toMatchObject({
      code: 'invalid_number',
      offset: 1,
    });
  });

  test('the name of a visited member has a limit', () => {
    const visit = (): Visit => ({
      kind: 'object',
      uniqueNames: 'caller',
      onOther: refuseOther,
      onMember: () => ({ kind: 'skip', maxDepth: 9 }),
    });
    expect(scan([Buffer.from(`{"${'n'.repeat(limits.maxMemberNameBytes - 2)}":1}`)], visit).values).toEqual([]);
    expect(scan([Buffer.from(`{"${'n'.repeat(limits.maxMemberNameBytes)}":1}`)], visit).error).toMatchObject({
      code: 'invalid_string',
      offset: 1,
    });
  });
});

describe('names in captured objects', () => {
  const object = (names: string[]) => `{${names.map((name) => `${JSON.stringify(name)}:1`).join(',')}}`;
  const many = (count: number) => Array.from({ length: count }, (_, index) => `name ${index}`);

  test.each([2, 8, 31, 32, 33, 34, 1000])('a duplicate of any of %i names is found', (count) => {
    expect(captureText(object(many(count))).values).toHaveLength(1);
    for (const again of ['name 0', `name ${count - 1}`]) {
      const json = object([...many(count), again]);
      expect(captureText(json).error).toMatchObject({
        code: 'duplicate_member',
        pointer: `/${again}`,
        offset: json.lastIndexOf(`"${again}"`),
      });
    }
  });

  test('are compared only within one object', () => {
    const inner = object(many(40));
    expect(captureText(`[${inner},${inner},{"name 1":${inner},"name 2":[${inner}],"a":1}]`).values).toHaveLength(1);
    expect(captureText(`{"a":${inner},"b":${inner},"a":1}`).error).toMatchObject({
      code: 'duplicate_member',
      pointer: '/a',
    });
  });

  test('may be duplicates when the caller asks for it', () => {
    const json = '{"a":1,"a":2}';
    const outcome = scan([Buffer.from(json)], (onValue) => ({
      kind: 'capture',
      maxBytes: 99,
      maxDepth: 9,
      duplicates: 'keep',
      onValue,
    }));
    expect(outcome.values?.[0]?.text).toBe(json);
  });
});

describe('visited containers', () => {
  const record = (json: string, shape: (seen: string[], capture: (label: string) => Visit) => Visit): string[] => {
    const seen: string[] = [];
    const capture = (label: string): Visit => ({
      kind: 'capture',
      maxBytes: 50,
      maxDepth: 3,
      onValue: ({ text, type, offset }: CapturedValue) => seen.push(`${label} ${type} ${text} @${offset}`),
    });
    const scanner = createJsonScanner(shape(seen, capture));
    scanner.write(Buffer.from(json));
    scanner.end();
    return seen;
  };

  const backupShape = (seen: string[], capture: (label: string) => Visit): Visit => ({
    kind: 'object',
    uniqueNames: 'check',
    onOther: refuseOther,
    onEnd: (offset) => seen.push(`end @${offset}`),
    onMember: (name, offset) => {
      seen.push(`member ${name} @${offset}`);
      if (name === 'list') {
        return {
          kind: 'array',
          onOther: () => capture('other'),
          onElement: (index) => (index === 1 ? { kind: 'skip', maxDepth: 2 } : capture(`#${index}`)),
          onEnd: () => seen.push('list end'),
        };
      }
      return capture(name);
    },
  });

  test('call back for each member and element, in order, with offsets', () => {
    const json = '{ "a\\u0062" : 1.0, "list":[ [1, 2] ,{"x":[12345678901234567890]}, "s"], "__proto__": {} }';
    expect(record(json, backupShape)).toEqual([
      'member ab @2',
      'ab number 1 @14',
      'member list @19',
      '#0 array [1,2] @28',
      '#2 string "s" @66',
      'list end',
      'member __proto__ @72',
      '__proto__ object {} @85',
      'end @88',
    ]);
  });

  test('an empty container ends without a member', () => {
    expect(record('{}', backupShape)).toEqual(['end @1']);
    expect(record('{"list":[ ]}', backupShape)).toEqual(['member list @1', 'list end', 'end @11']);
  });

  test('a value of another type is passed to onOther', () => {
    expect(record('{"list":null}', backupShape)).toEqual(['member list @1', 'other null null @8', 'end @12']);
    expect(() => record('[]', backupShape)).toThrow('no array here');
    expect(() => record('"x"', backupShape)).toThrow('no string here');
  });

  test('duplicate names are refused or left to the caller', () => {
    const visit = (uniqueNames: ObjectVisit['uniqueNames']) => () => ({
      kind: 'object' as const,
      uniqueNames,
      onOther: refuseOther,
      onMember: () => ({ kind: 'skip' as const, maxDepth: 1 }),
    });
    const json = Buffer.from('{"a":1,"b":{},"\\u0061":[]}');
    expect(scan([json], visit('check')).error).toMatchObject({ code: 'duplicate_member', pointer: '/a', offset: 14 });
    expect(scan([json], visit('caller')).values).toEqual([]);
  });

  test.each([
    ['{"list":[1,[[[[]]]]]}', 'nested_too_deeply', '/list/1', 13],
    ['{"list":[1,2,[0,1e999]]}', 'invalid_number', '/list/2/1', 16],
    ['{"list":[1,2 3]}', 'invalid_json', '/list/1', 13],
    ['{"list":[1,2,]}', 'invalid_json', '/list/2', 13],
    ['{"a":{"x":[1,{"y":tru }]}}', 'invalid_json', '/a/x/1/y', 21],
    ['{"a":1 "b":2}', 'invalid_json', '/a', 7],
    ['{"a" 1}', 'invalid_json', '/a', 5],
    [`{"a":1,"long":"${'x'.repeat(60)}"}`, 'document_too_large', '/long', 14],
    ['{"a":1}]', 'invalid_json', '', 7],
    ['{"a":1', 'invalid_json', '/a', 6],
  ])('errors have a pointer from the root: %.30s', (json, code, pointer, offset) => {
    const outcome = scan([Buffer.from(json)], () =>
      backupShape([], () => ({ kind: 'capture', maxBytes: 50, maxDepth: 5, onValue: () => undefined })),
    );
    expect(outcome.error).toMatchObject({ code, pointer, offset });
  });

  test('a visit can set the place that its errors name', () => {
    const visit: Visit = {
      kind: 'object',
      uniqueNames: 'caller',
      onOther: refuseOther,
      onMember: (name) => ({
        kind: 'capture',
        maxBytes: 99,
        maxDepth: 9,
        place: { document: name, pointer: '' },
        onValue: () => undefined,
      }),
    };
    const scanner = createJsonScanner(visit);
    expect(() => scanner.write(Buffer.from('{"doc":{"a":[1e999]}}'))).toThrow(
      expect.objectContaining({ code: 'invalid_number', place: { document: 'doc', pointer: '/a/0', offset: 13 } }),
    );
  });
});

describe('the lifetime of a scanner', () => {
  const kept: CapturedValue[] = [];
  const visit: Visit = { kind: 'capture', maxBytes: 99, maxDepth: 9, onValue: (value) => kept.push(value) };

  test('a captured text does not share memory with the chunk', () => {
    const chunk = Buffer.from('["abc"]');
    createJsonScanner(visit).write(chunk);
    chunk.fill(0);
    expect(kept.at(-1)?.text.toString()).toBe('["abc"]');
  });

  test('offset counts the bytes taken', () => {
    const scanner = createJsonScanner(visit);
    scanner.write(Buffer.from(' [1'));
    expect(scanner.offset()).toBe(3);
    scanner.write(new Uint8Array([0x5d, 0x20]));
    expect(scanner.offset()).toBe(5);
    scanner.end();
  });

  test('after an error, each call throws the same error again', () => {
    const scanner = createJsonScanner(visit);
    expect(() => scanner.write(Buffer.from('[x'))).toThrow("found 'x', at byte 1");
    expect(() => scanner.write(Buffer.from('1]'))).toThrow("found 'x', at byte 1");
    expect(() => scanner.end()).toThrow("found 'x', at byte 1");
  });

  test('an error of a callback passes through', () => {
    const broken = createJsonScanner({ ...visit, onValue: () => refuseOther('luck') });
    expect(() => broken.write(Buffer.from('[]'))).toThrow('no luck here');
  });

  test('a number at the root ends with the input', () => {
    const scanner = createJsonScanner(visit);
    scanner.write(Buffer.from('12'));
    scanner.write(Buffer.from('.50'));
    scanner.end();
    expect(kept.at(-1)?.text.toString()).toBe('12.5');
  });

  test.each([1, 1000, 65_536])('whitespace is refused at the limit, in chunks of %i bytes', (chunkBytes) => {
    const scan = (before: number) => {
      const scanner = createJsonScanner(visit);
      const text = Buffer.from(`[1,${' '.repeat(before)}2]`);
      for (let at = 0; at < text.length; at += chunkBytes) scanner.write(text.subarray(at, at + chunkBytes));
      scanner.end();
    };
    scan(limits.maxWhitespaceBytes);
    expect(kept.at(-1)?.text.toString()).toBe('[1,2]');
    const place = { pointer: '/1', offset: 3 + limits.maxWhitespaceBytes };
    expect(() => scan(limits.maxWhitespaceBytes + 1)).toThrow(
      expect.objectContaining({ code: 'body_too_large', place }),
    );
  });
});
