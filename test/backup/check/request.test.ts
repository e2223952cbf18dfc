import { describe, expect, test } from 'vitest';
import { checkRequest, checkUndoRequest } from '../../../src/backup/check/request.ts';
import { createRestoreDecoder } from '../../../src/backup/format/decoder.ts';
import type { RestoreMembers } from '../../../src/domain/request.ts';

const header = { loom_backup_version: 1, state_key: 'default' };
const backup = { header, manifest: undefined, hasState: true, hasDigests: false, hasAudit: false, auditEntries: 0 };
const context = { stateKey: 'default', schemaVersion: 1 };

function optionsOf(members: RestoreMembers) {
  return checkRequest({ request: { confirm: 'restore', ...members }, backup }, context).options;
}

describe('a restore request', () => {
  test('has defaults', () => {
    expect(optionsOf({})).toEqual({
      replaceState: true,
      truncateAudit: false,
      dryRun: false,
      acceptUnverified: false,
    });
  });

  test('sets every option', () => {
    expect(
      optionsOf({
        replace_state: false,
        dry_run: true,
        expect_revision: 7,
        accept_state_key: 'a_b',
        accept_unverified: true,
      }),
    ).toEqual({
      replaceState: false,
      truncateAudit: false,
      dryRun: true,
      expectRevision: 7,
      acceptStateKey: 'a_b',
      acceptUnverified: true,
    });
    expect(optionsOf({ into_scratch: 'drill' })).toMatchObject({ intoScratch: 'drill' });
  });

  test.each([
    [{ expect_revision: -1 }, '/expect_revision'],
    [{ expect_revision: 1.5 }, '/expect_revision'],
    [{ dry_run: 'yes' }, '/dry_run'],
    [{ into_scratch: '..' }, '/into_scratch'],
    [{ into_scratch: 'drill', replace_state: false }, '/replace_state'],
    [{ into_scratch: 'drill', expect_revision: 1 }, '/expect_revision'],
    [{ truncate_audit: true }, '/truncate_audit'],
    [{ unknown: 1 }, '/unknown'],
  ])('is refused with %j', (members, pointer) => {
    expect(() => optionsOf(members as RestoreMembers)).toThrow(
      expect.objectContaining({ code: 'invalid_restore_request', place: { pointer } }),
    );
  });

  test('is refused without confirmation, without backup, or with a different state key', () => {
    const check =
      (request: object, given: typeof backup | undefined, stateKey = 'default') =>
      () =>
        checkRequest({ request: { ...request }, backup: given }, { ...context, stateKey });
    expect(check({}, backup)).toThrow(expect.objectContaining({ code: 'confirm_missing' }));
    expect(check({ confirm: 'restore' }, undefined)).toThrow(
      expect.objectContaining({ place: { pointer: '/backup' } }),
    );
    expect(check({ confirm: 'restore' }, backup, 'other')).toThrow(
      expect.objectContaining({ code: 'state_key_mismatch' }),
    );
    expect(check({ confirm: 'restore', accept_state_key: 'default' }, backup, 'other')()).toMatchObject({
      backup: { verified: false },
    });
  });
});

test.each([
  [{ state_key: 'x'.repeat(257) }, '"state_key" is too long; expected at most 256 characters.'],
  [{ revision: -1 }, '"revision" is less than 0, the minimum.'],
  [{ revision: 'one' }, '"revision" is missing or has the wrong type; expected number.'],
])('a header with %j is refused with what it should be', (header, message) => {
  const frame = { ...backup, header: { ...backup.header, ...header } };
  const check = () => checkRequest({ request: { confirm: 'restore' }, backup: frame }, context);
  expect(check).toThrow(message);
});

test('an unknown member with a long name is refused with a short error', () => {
  const name = 'n'.repeat(10_000);
  for (const check of [
    () => checkUndoRequest({ confirm: 'undo', [name]: 1 }),
    () => checkRequest({ request: { confirm: 'restore', [name]: 1 }, backup }, context),
    () => createRestoreDecoder().write(Buffer.from(`{"${name}":1}`)),
  ]) {
    const short = /^"n{2000,2048}…" is not a known member[^"]*$/;
    const pointer = expect.stringMatching(/^\/n{2000,2048}…$/);
    expect(check).toThrow(expect.objectContaining({ message: expect.stringMatching(short), place: { pointer } }));
  }
});

test('an unknown member with a line break in its name is named on one line', () => {
  const check = () => checkUndoRequest({ confirm: 'undo', 'a\nb': 1 });
  expect(check).toThrow('"a\\nb" is not a known member.');
});

test('an event id that is no UUID is named as such', () => {
  expect(() => checkUndoRequest({ confirm: 'undo', event_id: 'x' })).toThrow('"event_id" is not a UUID.');
});

describe('an undo request', () => {
  test('has defaults, and an event id in lower case', () => {
    expect(checkUndoRequest({ confirm: 'undo' })).toEqual({ dryRun: false });
    const event_id = '019C1A00-0000-7000-8000-0000000000AB';
    expect(checkUndoRequest({ confirm: 'undo', dry_run: true, expect_revision: 0, event_id })).toEqual({
      dryRun: true,
      expectRevision: 0,
      eventId: event_id.toLowerCase(),
    });
  });

  test.each([
    [null, 'invalid_undo_request', ''],
    [[], 'invalid_undo_request', ''],
    [{}, 'confirm_missing', '/confirm'],
    [{ confirm: 'restore' }, 'confirm_missing', '/confirm'],
    [{ confirm: 'undo', event_id: 'x' }, 'invalid_undo_request', '/event_id'],
    [{ confirm: 'undo', into_scratch: 'x' }, 'invalid_undo_request', '/into_scratch'],
  ])('is refused as %j', (body, code, pointer) => {
    expect(() => checkUndoRequest(body)).toThrow(expect.objectContaining({ code, place: { pointer } }));
  });
});
