import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type EntryMembers, malformedMember } from '../../../src/backup/check/entry-forms.ts';
import { EntryText } from '../../../src/backup/check/entry-text.ts';
import { createChangeReader } from '../../../src/backup/check/only-change.ts';
import { malformedMemberOf } from '../../../src/backup/check/plain-entry.ts';
import { createBackupDecoder, type EntryItem } from '../../../src/backup/format/decoder.ts';
import { canonicalText, canonicalWithout } from '../../../src/json/canonical.ts';
import { limits } from '../../../src/limits.ts';
import { createEntryStager } from '../../../src/persistence/restore/stage-entries.ts';
import { anyJson, spellOddly } from '../../setup/values/json-samples.ts';

const HASH = 'ab'.repeat(32);

const good = {
  seq: 7,
  event_id: '01234567-89ab-cdef-0123-456789abcdef',
  recorded_at: '2026-01-31T23:59:59.123456Z',
  action: 'document.put',
  revision: 7,
  epoch: 'F95jjP9wui',
};

const NONE = { start: -1, end: -1 };

const put = { op: 'put', name: 'a/é', value: { b: [1, '"}', {}] }, sha256: HASH };

/** Returns the entry of a backup as the decoder passes it on. The first chunk may end inside it. */
function decode(text: string, cut = Number.POSITIVE_INFINITY): EntryItem {
  const bytes = Buffer.from(`{"audit_entries":[${text}]`);
  const decoder = createBackupDecoder();
  const at = Math.min(bytes.length, '{"audit_entries":['.length + cut);
  const items = [...decoder.write(bytes.subarray(0, at)), ...decoder.write(bytes.subarray(at))];
  const [item] = items;
  if (item?.kind !== 'entry') throw new Error(`Expected an entry: ${text}`);
  return item;
}

function read(entry: object, write: (entry: object) => string = JSON.stringify): EntryText {
  return readItem(decode(write(entry)));
}

function readItem({ text, members }: EntryItem): EntryText {
  const entry = new EntryText();
  entry.read(text, members);
  return entry;
}

/** Returns the columns that a restore stages for an entry, as text. */
function stage(item: EntryItem): string[] {
  const columns: string[] = [];
  const slice = (source: Uint8Array, start: number, end: number): string =>
    Buffer.from(source.subarray(start, end)).toString('utf8');
  createEntryStager().add(item, {
    addNull: () => columns.push('null'),
    addInteger: (value) => columns.push(String(value)),
    addTimestamp: (microseconds) => columns.push(`${microseconds} µs`),
    addText: (text) => columns.push(text),
    addTextBytes: (source, start, end) => columns.push(slice(source, start, end)),
    addJson: (source, start, end, prefix = '') => columns.push(prefix + slice(source, start, end)),
    addHex: (source, start, end) => columns.push(slice(source, start, end)),
    addUuid: (source, start) => columns.push(slice(source, start, start + 36)),
  });
  return columns;
}

/** The entry as LOOM writes it: the hash, then the rest in canonical form. */
function asLoom(entry: object): string {
  return `{"hash":"${HASH}",${canonicalText(entry).slice(1)}`;
}

const anyMember = fc.oneof(anyJson, fc.constantFrom(HASH, put, [put], [put, put], 'x'.repeat(4000), '\u0001', 'é'));
const anyEntry = fc.dictionary(
  fc.constantFrom('seq', 'hash', 'event_id', 'action', 'idempotency_key', 'revision', 'epoch', 'changes', 'é', 'other'),
  anyMember,
);

test('the members of any entry are those that JSON.parse returns, and the text without its hash has the others', () => {
  fc.assert(
    fc.property(anyEntry, fc.nat(), fc.nat(500), (some, seed, cut) => {
      const entry = seed % 2 === 0 ? { ...good, hash: HASH, ...some } : some;
      const { hash: _hash, ...rest } = entry as { hash?: unknown };
      const text = seed % 4 === 0 ? asLoom(rest) : spellOddly(entry, seed);
      const item = decode(text, cut);
      const parsed = JSON.parse(text) as EntryMembers & Record<string, unknown>;
      const expected = canonicalWithout(Buffer.from(item.text), 'hash');
      const found = readItem(item);
      expect(malformedMemberOf(found)).toBe(malformedMember(parsed));
      for (const [name, value] of Object.entries(found.members())) {
        if (typeof value === 'number' || (typeof value === 'string' && value !== '')) expect(value).toBe(parsed[name]);
      }
      const columns = stage(item);
      expect(columns).toHaveLength(13);
      if (malformedMember({ ...good, hash: parsed.hash }) === undefined)
        expect(canonicalText(JSON.parse(columns.at(-1) ?? ''))).toBe(expected);
    }),
  );
});

test('an entry with one other byte is well-formed if and only if its members are', () => {
  const text = asLoom({ ...good, idempotency_key: 'order-7', changes: [put] });
  fc.assert(
    fc.property(fc.nat(text.length - 1), fc.constantFrom(...'0129aAfFgGzZ_-.:T "{[,é'), (at, other) => {
      const changed = `${text.slice(0, at)}${other}${text.slice(at + 1)}`;
      let parsed: EntryMembers;
      let item: EntryItem;
      try {
        parsed = JSON.parse(changed) as EntryMembers;
        item = decode(changed);
      } catch {
        return;
      }
      expect([changed, malformedMemberOf(readItem(item))]).toEqual([changed, malformedMember(parsed)]);
    }),
    { numRuns: 500 },
  );
});

test('the columns of an entry are its members', () => {
  const entry = { ...good, idempotency_key: 'é', changes: [put] };
  const recordedAt = '1769903999123456 µs';
  const [recorded, rest] = [[recordedAt, good.action, 'a/é', '7', 'put', HASH], canonicalText(entry)];
  expect(stage(decode(asLoom(entry)))).toEqual(['1', '7', HASH, 'null', good.event_id, 'é', ...recorded, rest]);
  const undo = stage(decode(asLoom({ ...entry, action: 'undo' })));
  expect(undo.slice(6, 12)).toEqual([recordedAt, 'undo', ...nulls(4)]);
  const control = stage(decode(asLoom({ ...entry, idempotency_key: '\u0001', action: '"\u0002' })));
  expect(control.slice(5, 8)).toEqual(['\u0001', recordedAt, '"\u0002']);
  const long = stage(decode(asLoom({ ...entry, action: 'é'.repeat(4000) })));
  expect(long[7]).toBe('null');
  const malformed = stage(decode(asLoom({ ...entry, epoch: '' })));
  expect(malformed.slice(0, -1)).toEqual(['1', '7', HASH, ...nulls(9)]);
});

function nulls(count: number): string[] {
  return Array.from({ length: count }, () => 'null');
}

test.each<[string, object, object]>([
  ['a put', put, { name: 'a/é', op: 'put', sha256: HASH, revision: undefined }],
  ['a merge with its own revision', { ...put, op: 'merge', revision: 5 }, { op: 'merge', revision: 5 }],
  ['a deletion', { op: 'delete', name: 'a' }, { name: 'a', op: 'delete', sha256: undefined }],
  ['a name with quotes', { ...put, name: '"\\' }, { name: '"\\' }],
])('the only change of an entry is read: %s', (_what, change, expected) => {
  const entry = { ...good, changes: [change] };
  for (const write of [asLoom, JSON.stringify, (one: object) => spellOddly(one, 3)]) {
    const text = read(entry, write);
    const found = createChangeReader()(text);
    const values = { revision: text.value(found?.revision ?? NONE), sha256: text.value(found?.sha256 ?? NONE) };
    expect({ ...found, ...values }).toMatchObject(expected);
  }
});

test.each<[string, unknown]>([
  ['several changes', [put, put]],
  ['no change', []],
  ['a put without a digest', [{ op: 'put', name: 'a', value: 1 }]],
  ['a digest of another form', [{ ...put, sha256: HASH.toUpperCase() }]],
  ['a name that no document can have', [{ ...put, name: 'a\u0085' }]],
  ['a name that is too long', [{ ...put, name: 'x'.repeat(limits.maxDocumentNameBytes + 1) }]],
  ['an unknown operation', [{ ...put, op: 'move' }]],
  ['a revision of another form', [{ ...put, revision: '5' }]],
  ['another element', [[put]]],
  ['another value', { put }],
])('PostgreSQL reads the changes of an entry with %s', (_what, changes) => {
  for (const write of [asLoom, JSON.stringify])
    expect(createChangeReader()(read({ ...good, changes }, write))).toBeUndefined();
});

test('a key or a name of the greatest length is read, even if each byte is escaped', () => {
  const key = '\u0001'.repeat(limits.maxIdempotencyKeyBytes);
  expect(read({ ...good, idempotency_key: key }).members().idempotency_key).toBe(key);
  const name = '"'.repeat(limits.maxDocumentNameBytes);
  expect(createChangeReader()(read({ ...good, changes: [{ ...put, name }] }))?.name).toBe(name);
});
