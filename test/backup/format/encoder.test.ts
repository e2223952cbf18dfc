import { describe, expect, it } from 'vitest';
import { checkFrame } from '../../../src/backup/check/frame.ts';
import { checkRequest } from '../../../src/backup/check/request.ts';
import { type BackupItem, createRestoreDecoder } from '../../../src/backup/format/decoder.ts';
import { chainHash, createStateDigest, sha256 } from '../../../src/backup/format/digests.ts';
import { createBackupEncoder } from '../../../src/backup/format/encoder.ts';
import { GENESIS_HASH } from '../../../src/domain/audit.ts';
import type { BackupHeader } from '../../../src/domain/backup.ts';
import { canonicalOfCaptured } from '../../../src/json/canonical.ts';

const header: BackupHeader = {
  loom_backup_version: 1,
  backend: 'postgres',
  instance_id: 'instance',
  state_key: 'default',
  schema_version: 1,
  epoch: 'epoch',
  revision: 2,
  exported_at: '2026-01-01T00:00:00.000000Z',
  state_updated_at: '2026-01-01T00:00:00.000000Z',
};
const documents: [name: string, text: string][] = [
  ['__proto__', '{"a": [1, 2], "__proto__": {}}'],
  ['a/"b\\', '"é🧵\\u0001"'],
  ['n', 'null'],
];
const entries = ['{"a": 1, "seq": 1}', '{"a": "🧵", "seq": 2}'];

const hashes: string[] = [];
for (const text of entries) hashes.push(chainHash(hashes.at(-1) ?? GENESIS_HASH, Buffer.from(text)));
const head = { seq: entries.length, hash: hashes.at(-1) ?? GENESIS_HASH };

function encode(end = head): string {
  const encoder = createBackupEncoder();
  const parts: (string | Buffer)[] = [encoder.begin(header)];
  for (const [name, text] of documents) parts.push(encoder.document(Buffer.from(name), Buffer.from(text)));
  parts.push(encoder.beginDigests());
  for (const [name, text] of documents) {
    parts.push(encoder.digest(Buffer.from(name), sha256(Buffer.from(text)).toString('hex')));
  }
  parts.push(encoder.beginAudit({ seq: 0, hash: GENESIS_HASH }));
  entries.forEach((text, index) => {
    parts.push(encoder.entry(index + 1, hashes[index] ?? '', Buffer.from(text)));
  });
  parts.push(encoder.end(end));
  return parts.join('');
}

/** Decodes a text in pieces. Copies the items of each piece at once, to detect reused buffers. */
function decode(...pieces: Buffer[]) {
  const decoder = createRestoreDecoder();
  const items: BackupItem[] = [];
  for (const piece of pieces) items.push(...structuredClone(decoder.write(piece)));
  return { items: items.map(flat), decoded: decoder.end() };
}

/** Texts are compared in canonical form, because an item that is complete in a chunk may have kept it. */
function flat(item: BackupItem): string[] {
  if (item.kind === 'digest') return [item.kind, item.name, item.sha256];
  const canonical = canonicalOfCaptured(Buffer.from(item.text));
  return item.kind === 'document' ? [item.kind, item.name, canonical] : [item.kind, canonical];
}

const body = (backup: string) => Buffer.from(`{"confirm":"restore","backup":${backup},"dry_run":true}`);

describe('an encoded backup', () => {
  it('is JSON with the given values and the manifest last', () => {
    const backup = JSON.parse(encode());
    expect(backup).toMatchObject(header);
    expect(backup.state).toEqual(JSON.parse(`{${documents.map(([name, text]) => `${JSON.stringify(name)}:${text}`)}}`));
    expect(backup.audit_entries).toEqual(entries.map((text, index) => ({ ...JSON.parse(text), hash: hashes[index] })));
    expect(Object.keys(backup).at(-1)).toBe('manifest');
    const digest = createStateDigest();
    for (const [name, text] of documents) digest.add(Buffer.from(name), sha256(Buffer.from(text)));
    expect(backup.manifest).toMatchObject({
      documents: 3,
      state_sha256: digest.end(),
      audit_included: true,
      audit_entries: 2,
      audit_first: { seq: 1, previous_hash: GENESIS_HASH },
      audit_head: head,
      audit_verified: true,
    });
  });

  it('is decoded and accepted unchanged in any two chunks', () => {
    const whole = body(encode());
    const uncut = decode(whole);
    expect(uncut.items.map(([kind]) => kind)).toEqual([
      ...documents.map(() => 'document'),
      ...documents.map(() => 'digest'),
      ...entries.map(() => 'entry'),
    ]);
    for (let cut = 1; cut < whole.length; cut += 1) {
      expect(decode(whole.subarray(0, cut), whole.subarray(cut))).toEqual(uncut);
    }
    const checked = checkRequest(uncut.decoded, { stateKey: 'default', schemaVersion: 1 });
    expect(checked.options).toMatchObject({
      replaceState: true,
      truncateAudit: false,
      dryRun: true,
      acceptUnverified: false,
    });
    expect(checked.backup).toMatchObject({ header, hasState: true, hasAudit: true });
  });

  it('is decoded byte by byte', () => {
    const whole = body(encode());
    expect(decode(...Array.from(whole, (byte) => Buffer.from([byte])))).toEqual(decode(whole));
  });

  it('has an unverified chain if the chain does not end at the head', () => {
    expect(JSON.parse(encode({ seq: 3, hash: head.hash })).manifest.audit_verified).toBe(false);
    expect(JSON.parse(encode({ seq: 2, hash: GENESIS_HASH })).manifest.audit_verified).toBe(false);
  });

  it('is refused when a section is missing', () => {
    const { decoded } = decode(body(encode()));
    if (decoded.backup === undefined) throw new Error('the backup was not decoded');
    const known = { schemaVersion: 1, acceptUnverified: false };
    const { manifest: _manifest, ...frame } = decoded.backup;
    expect(() => checkFrame({ ...frame, manifest: undefined }, '', known)).toThrow(
      expect.objectContaining({ code: 'backup_unverified' }),
    );
    expect(() =>
      checkFrame({ ...decoded.backup, hasAudit: false } as typeof frame & { manifest: unknown }, '', known),
    ).toThrow(expect.objectContaining({ code: 'backup_count_mismatch' }));
  });
});

describe('the encoder refuses', () => {
  const name = Buffer.from('a');
  const text = Buffer.from('1');

  it('calls out of order', () => {
    const begun = () => {
      const encoder = createBackupEncoder();
      encoder.begin(header);
      return encoder;
    };
    expect(() => createBackupEncoder().document(name, text)).toThrow(/cannot go from nothing/);
    expect(() => createBackupEncoder().end(head)).toThrow(/cannot go from nothing/);
    expect(() => begun().begin(header)).toThrow(/from state to state/);
    expect(() => begun().beginAudit(head)).toThrow(/from state to audit/);
    expect(() => begun().end(head)).toThrow(/from state to done/);
    const ended = begun();
    ended.beginDigests();
    ended.end({ seq: 0, hash: GENESIS_HASH });
    expect(() => ended.end(head)).toThrow(/from done/);
  });

  it('an end while a digest is missing or does not match', () => {
    for (const digest of [undefined, sha256(Buffer.from('2')).toString('hex')]) {
      const encoder = createBackupEncoder();
      encoder.begin(header);
      encoder.document(name, text);
      encoder.beginDigests();
      if (digest !== undefined) encoder.digest(name, digest);
      expect(() => encoder.end({ seq: 0, hash: GENESIS_HASH })).toThrow(/digest/);
    }
  });
});

describe('the decoder refuses', () => {
  const refused: [string, string, Record<string, unknown>][] = [
    [
      'a body that ends early',
      '{"backup":{"state":{"a":',
      { code: 'backup_incomplete', place: { pointer: '/backup/state/a' } },
    ],
    [
      'a state that is an array',
      '{"backup":{"state":[]}}',
      { code: 'backup_malformed', place: { pointer: '/backup/state', offset: 19 } },
    ],
    ['entries that are an object', '{"backup":{"audit_entries":{}}}', { code: 'backup_malformed' }],
    [
      'an entry that is a number',
      '{"backup":{"audit_entries":[1]}}',
      { code: 'backup_malformed', place: { pointer: '/backup/audit_entries/0' } },
    ],
    [
      'a digest in the wrong form',
      '{"backup":{"document_sha256":{"a":"x"}}}',
      { code: 'backup_malformed', place: { pointer: '/backup/document_sha256/a' } },
    ],
    [
      'a digest in upper case',
      `{"backup":{"document_sha256":{"a":"${'A'.repeat(64)}"}}}`,
      { code: 'backup_malformed' },
    ],
    ['a backup that is null', '{"backup":null}', { code: 'backup_malformed', place: { pointer: '/backup' } }],
    ['two backups', '{"backup":{},"backup":{}}', { code: 'duplicate_member' }],
    [
      'too many members',
      `{"backup":{${Array.from({ length: 100 }, (_, index) => `"m${index}":1`)}}}`,
      { code: 'backup_malformed' },
    ],
    ['an array', '[]', { code: 'invalid_restore_request' }],
  ];

  it.each(refused)('%s', (_what, text, error) => {
    expect(() => decode(Buffer.from(text))).toThrow(expect.objectContaining({ code: error.code }));
    let thrown: unknown;
    try {
      decode(Buffer.from(text));
    } catch (caught) {
      thrown = caught;
    }
    expect(thrown).toMatchObject(error);
  });
});
