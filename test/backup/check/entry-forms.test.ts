import { expect, test } from 'vitest';
import {
  type EntryMembers,
  entryForms,
  idempotencyKeyBytes,
  malformedMember,
} from '../../../src/backup/check/entry-forms.ts';
import { malformedEntry } from '../../../src/backup/check/faults.ts';
import { limits } from '../../../src/limits.ts';
import { createEpoch } from '../../../src/persistence/state/identifiers.ts';

const good: EntryMembers = {
  seq: 1,
  hash: '0'.repeat(64),
  event_id: '01234567-89ab-cdef-0123-456789abcdef',
  recorded_at: '2026-01-31T23:59:59.123456Z',
  action: 'document.put',
};

test('a valid entry has no malformed member', () => {
  expect(malformedMember(good)).toBeUndefined();
  expect(malformedMember({ ...good, seq: 999_999_999_999_999, idempotency_key: 'k' })).toBeUndefined();
  expect(malformedMember({ ...good, revision: 0, epoch: 'AZaz09_-xx' })).toBeUndefined();
  expect(malformedMember({ ...good, revision: limits.maxBackupRevision, epoch: createEpoch() })).toBeUndefined();
  expect(malformedMember({ ...good, idempotency_key: 'é'.repeat(127) })).toBeUndefined();
});

test.each<EntryMembers>([
  ...[0, -1, 1.5, 1e15, 1e21, '1', null, undefined].map((seq) => ({ seq })),
  ...['0'.repeat(63), '0'.repeat(65), 'A'.repeat(64), 1, null].map((hash) => ({ hash })),
  ...['01234567-89AB-cdef-0123-456789abcdef', '0123456789abcdef0123456789abcdef', ''].map((event_id) => ({ event_id })),
  ...[
    '2026-01-31T23:59:59.12345Z',
    '2026-01-31T24:00:00.000000Z',
    '2026-01-31T23:59:60.000000Z',
    '2026-01-31 23:59:59.123456Z',
    '2026-01-31T23:59:59.123456+00:00',
    '2026-01-31T23:59:59.123456Z\n',
    '٢٠٢٦-01-31T23:59:59.123456Z',
  ].map((recorded_at) => ({ recorded_at })),
  { action: 7 },
  ...[-1, 1.5, 1e16, 1e21, '1', null, {}].map((revision) => ({ revision })),
  ...['', 'a b', 'a"b', 'a.b', 'é', 'a\r\nx: y', 'e'.repeat(65), 5, null].map((epoch) => ({ epoch })),
  ...['', 'é'.repeat(128), 5, null].map((idempotency_key) => ({ idempotency_key })),
])('%j is malformed', (member) => {
  expect(malformedMember({ ...good, ...member })).toBe(Object.keys(member)[0]);
});

test('a day is well-formed if and only if it exists', () => {
  const form = new RegExp(entryForms.recorded_at);
  for (const year of ['0000', '0001', '0004', '0100', '1900', '2000', '2023', '2024', '2100', '2400', '9999']) {
    for (let month = 0; month <= 13; month += 1) {
      for (let day = 0; day <= 32; day += 1) {
        const text = [year, String(month).padStart(2, '0'), String(day).padStart(2, '0')].join('-');
        const date = new Date(`${text}T00:00:00Z`);
        const exists = !Number.isNaN(date.getTime()) && date.toISOString().startsWith(text) && year !== '0000';
        expect([text, form.test(`${text}T00:00:00.000000Z`)]).toEqual([text, exists]);
      }
    }
  }
});

test('no source contains a backslash, whose meaning in PostgreSQL depends on the locale', () => {
  for (const source of Object.values(entryForms)) expect(source).not.toContain('\\');
  expect(idempotencyKeyBytes).toEqual({ min: 1, max: 255 });
});

test.each([...Object.keys(entryForms), 'action', 'idempotency_key'])(
  'the error for a malformed %s says its form',
  (member) => {
    expect(malformedEntry('', 1, member, null).message).toMatch(/is missing or malformed; expected .{8,}\.$/);
  },
);
