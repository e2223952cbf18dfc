import { describe, expect, it } from 'vitest';
import { entryForms } from '../../../src/backup/check/entry-forms.ts';
import { createBackupDecoder, createRestoreDecoder } from '../../../src/backup/format/decoder.ts';
import { GENESIS_HASH } from '../../../src/domain/audit.ts';
import { canonicalText } from '../../../src/json/canonical.ts';
import { maxEarlierEntryBytes } from '../../../src/limits/data.ts';
import { limits } from '../../../src/limits.ts';

// What a writer may make, a reader must take. Each test compares the bound of a reader with the largest thing that the
// writers may make, computed from the bounds of the writers.

const bytesOf = (value: unknown): number => Buffer.byteLength(canonicalText(value));

/** The name that takes the most bytes in JSON: each quote takes two. No name has a control character. */
const widestName = '"'.repeat(limits.maxDocumentNameBytes);

/** The members of an entry other than its changes, at their largest. */
const frame = {
  seq: Number.MAX_SAFE_INTEGER,
  event_id: 'a6ca12eb-04bb-4f3c-8ebb-42ed71cdd1b4',
  recorded_at: '2026-01-01T00:00:00.000000Z',
  action: 'document.delete',
  actor: 'client',
  request_id: 'x'.repeat(limits.maxRequestIdBytes),
  revision: limits.maxBackupRevision,
  epoch: 'abcdefghij',
  idempotency_key: '"'.repeat(limits.maxIdempotencyKeyBytes),
  request_sha256: GENESIS_HASH,
  hash: GENESIS_HASH,
};

describe('the bounds of an audit entry', () => {
  it('allow a commit of the largest document', () => {
    const changes = [{ op: 'merge', name: widestName, value: '', created: true }];
    expect(limits.maxConfigurableDocumentBytes + bytesOf({ ...frame, changes })).toBeLessThan(
      limits.maxAuditEntryBytes,
    );
    expect(limits.maxDocumentBytes).toBeLessThanOrEqual(limits.maxConfigurableDocumentBytes);
    expect(limits.maxDocumentDepth + 3).toBeLessThanOrEqual(limits.maxAuditEntryDepth);
  });

  it('allow a restore to record any document after others of the usual size of an entry', () => {
    const changes = [
      { op: 'put', name: widestName, value: '', sha256: GENESIS_HASH, revision: Number.MAX_SAFE_INTEGER },
    ];
    const entry = { ...frame, action: 'restore.changes', operation_event_id: frame.event_id, changes };
    expect(limits.recordedChangesBytes + limits.maxConfigurableDocumentBytes + bytesOf(entry)).toBeLessThan(
      limits.maxAuditEntryBytes,
    );
  });

  it('allow readers what an earlier version could write, which counted values and UTF-16 units of names', () => {
    // No character has more bytes in JSON that were not counted, for each of its bytes in UTF-8, than a quote has.
    const uncounted = (character: string) => (bytesOf(character) - 2 - character.length) / Buffer.byteLength(character);
    for (const character of ['a', '\\', 'é', '語', '😀'])
      expect(uncounted(character)).toBeLessThanOrEqual(uncounted('"'));
    const put = bytesOf({ op: 'put', name: widestName, value: '', created: true }) + 2 - widestName.length;
    const remove = bytesOf({ op: 'delete', name: widestName }) + 2;
    const largest = bytesOf(frame) + limits.maxStateBodyBytes + limits.maxChangesPerCommit * (put + remove);
    expect(largest).toBeLessThanOrEqual(maxEarlierEntryBytes);
    expect(limits.maxAuditEntryBytes).toBeLessThanOrEqual(maxEarlierEntryBytes);
  });

  it('allow the entry of a restore or undo', () => {
    const names = Array.from({ length: limits.maxPlanNames }, () => widestName);
    const records = limits.maxUndoRecords + limits.maxEmptyUndoRecords + 1;
    const record = { event_id: frame.event_id, kind: 'restore', taken_at: frame.recorded_at, sha256: GENESIS_HASH };
    const operation = {
      document_names: { added: names, changed: names, removed: names, truncated: true },
      backup: Array.from({ length: 9 }, () => '\u0001'.repeat(limits.maxBackupHeaderCharacters)),
      undone: Array.from({ length: records }, () => ({ ...record, revision: Number.MAX_SAFE_INTEGER })),
      undo_records: Array.from({ length: records }, () => record),
    };
    const size =
      bytesOf({ ...frame, restore: operation }) + limits.maxReplacedRestores * (limits.maxReplacedRestoreBytes + 2);
    expect(size + 64 * 1024).toBeLessThan(limits.maxAuditEntryBytes);
  });

  it('allow the import of each entry by a restore, and of each import by an undo', () => {
    expect(maxEarlierEntryBytes + limits.auditImportBytes).toBeLessThanOrEqual(limits.maxImportedEntryBytes);
    expect(limits.maxImportedEntryBytes + limits.auditImportBytes).toBeLessThanOrEqual(limits.maxReadableEntryBytes);
    expect(limits.maxAuditEntryDepth + limits.auditImportDepth).toBeLessThanOrEqual(limits.maxReadableEntryDepth);
  });

  it('reserve enough for an import', () => {
    const text = '\u0001'.repeat(limits.maxBackupHeaderCharacters);
    const about = { instance_id: text, state_key: text, position: Number.MAX_SAFE_INTEGER, sha256: GENESIS_HASH };
    const { idempotency_key: _key, request_sha256: _sha256, ...own } = frame;
    const entry = { ...own, action: 'audit.import', changes: [], import: { ...about, verified: false, original: '' } };
    expect(bytesOf(entry)).toBeLessThanOrEqual(limits.auditImportBytes);
  });

  it('stay below what jq and PostgreSQL can read', () => {
    // {"backup":{"audit_entries":[entry]}}
    expect(limits.maxReadableEntryDepth + 3).toBeLessThan(256);
    expect(limits.maxReadableEntryBytes).toBeLessThan(255 * 2 ** 20);
  });
});

describe('the other bounds of a backup', () => {
  it('allow each name, number and key that a request may have', () => {
    expect(6 * limits.maxDocumentNameBytes).toBeLessThanOrEqual(limits.maxMemberNameBytes);
    expect(canonicalText(5e-324).length).toBeLessThan(limits.maxNumberBytes);
    expect(canonicalText(Number.MAX_VALUE).length).toBeLessThan(limits.maxNumberBytes);
    expect(new RegExp(entryForms.seq).test(String(10 ** 15 - 1))).toBe(true);
  });

  it('allow each header and manifest that a node writes, and what other tools add', () => {
    expect(limits.maxStateKeyBytes).toBeLessThanOrEqual(limits.maxBackupHeaderCharacters);
    expect(6 * limits.maxBackupHeaderCharacters).toBeLessThan(limits.maxBackupMemberBytes);
    expect(20).toBeLessThan(limits.maxBackupHeaderMembers);
    const head = { seq: Number.MAX_SAFE_INTEGER, hash: GENESIS_HASH };
    expect(bytesOf(Array.from({ length: 12 }, () => head))).toBeLessThan(limits.maxBackupMemberBytes);
  });

  it('allow a client command the report on the largest restore', () => {
    const names = Array.from({ length: limits.maxPlanNames }, () => '"'.repeat(limits.maxDocumentNameBytes));
    const text = '\u0001'.repeat(limits.maxBackupHeaderCharacters);
    const report = { names: [names, names, names], texts: Array.from({ length: 20 }, () => text) };
    expect(bytesOf(report)).toBeLessThan(limits.maxClientAnswerBytes / 2);
  });

  it('allow a route each name of a document and of a scratch state', () => {
    expect(3 * limits.maxDocumentNameBytes).toBeLessThanOrEqual(limits.maxRouteParameterCharacters);
    expect(limits.maxScratchKeyBytes).toBeLessThan(limits.maxStateKeyBytes);
  });

  it('let revisions grow after each restore', () => {
    expect(limits.maxRestoredRevision).toBeLessThan(limits.maxBackupRevision / 2 + 1);
  });

  it('let a restore list what restores did that it removes', () => {
    const { seq, recorded_at, request_id } = frame;
    const truncation = {
      seq,
      recorded_at,
      request_id,
      replaced_entries: seq,
      previous_head: { seq, hash: GENESIS_HASH },
    };
    expect(bytesOf(truncation)).toBeLessThanOrEqual(limits.maxReplacedRestoreBytes);
  });
});

describe('the decoder, for a restore and for a file', () => {
  const nestedEntry = (levels: number) => `{"a":${'['.repeat(levels - 1)}${']'.repeat(levels - 1)}}`;
  const decode = (entry: string): unknown => {
    const backup = `{"audit_entries":[${entry}]}`;
    const items = [createBackupDecoder().write(Buffer.from(backup))];
    items.push(createRestoreDecoder().write(Buffer.from(`{"backup":${backup}}`)));
    return items.map((one) => one.length);
  };

  it('takes an entry of the maximum depth, and refuses a deeper one', () => {
    expect(decode(nestedEntry(limits.maxReadableEntryDepth))).toEqual([1, 1]);
    expect(() => decode(nestedEntry(limits.maxReadableEntryDepth + 1))).toThrow(
      expect.objectContaining({ code: 'nested_too_deeply' }),
    );
  });
});
