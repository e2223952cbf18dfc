import type { AuditHead } from '../../domain/audit.ts';
import type { BackupHeader, BackupManifest } from '../../domain/backup.ts';
import { type ChainCheck, createChainCheck, createStateDigest, manifestDigest, sha256 } from './digests.ts';

/**
 * Writes one backup, section by section and in this order: `begin`, `document`*, `beginDigests`, `digest`*, then either
 * `beginAudit` and `entry`* or neither, `end`. A call out of order throws: a backup of another shape must not exist.
 * Every call answers the next bytes of the file. One document or entry stands on a line of its own.
 */
export interface BackupEncoder {
  begin(header: BackupHeader): string;
  /** In byte order of the names; `text` is the canonical text. */
  document(name: Buffer, text: Buffer): Buffer;
  beginDigests(): string;
  digest(name: Buffer, sha256Hex: string): string;
  beginAudit(previous: AuditHead): string;
  /** `text` is the canonical text of the entry without its hash. */
  entry(seq: number, hash: string, text: Buffer): Buffer;
  end(head: AuditHead): string;
  /** After `end`: whether the entries hold, and where they first do not; undefined when the backup has none to check. */
  chainVerdict(): { ok: boolean; firstBadSeq: number | null } | undefined;
}

type Section = 'nothing' | 'state' | 'digests' | 'audit' | 'done';

export function createBackupEncoder(): BackupEncoder {
  let section: Section = 'nothing';
  let header: BackupHeader | undefined;
  let documents = 0;
  let entries = 0;
  let digests = 0;
  let previous: AuditHead | undefined;
  let chain = createChainCheck();
  let verdict: { ok: boolean; firstBadSeq: number | null } | undefined;
  const written = createStateDigest();
  const kept = createStateDigest();

  function enter(next: Section, ...from: Section[]): void {
    if (!from.includes(section)) throw new Error(`a backup cannot go from ${section} to ${next}`);
    section = next;
  }

  return {
    begin: (given) => {
      enter('state', 'nothing');
      header = given;
      return `${JSON.stringify(given).slice(0, -1)},\n"state":{`;
    },
    document: (name, text) => {
      enter('state', 'state');
      written.add(name, sha256(text));
      return Buffer.concat([Buffer.from(`${separator(documents++)}${JSON.stringify(name.toString('utf8'))}:`), text]);
    },
    beginDigests: () => {
      enter('digests', 'state');
      return '\n},\n"document_sha256":{';
    },
    digest: (name, sha256Hex) => {
      enter('digests', 'digests');
      kept.add(name, Buffer.from(sha256Hex, 'hex'));
      return `${separator(digests++)}${JSON.stringify(name.toString('utf8'))}:"${sha256Hex}"`;
    },
    beginAudit: (given) => {
      enter('audit', 'digests');
      previous = given;
      chain = createChainCheck(given);
      return '\n},\n"audit_entries":[';
    },
    entry: (seq, hash, text) => {
      enter('audit', 'audit');
      chain.add(seq, hash, text);
      return Buffer.concat([Buffer.from(`${separator(entries++)}{"hash":"${hash}"`), membersOf(text)]);
    },
    end: (head) => {
      const auditIncluded = section === 'audit';
      enter('done', 'digests', 'audit');
      if (header === undefined || digests !== documents) throw new Error('a backup must have one digest a document');
      const stateSha256 = written.end();
      if (kept.end() !== stateSha256) throw new Error('a document differs from the digest that is kept beside it');
      if (auditIncluded) verdict = judge(chain, head);
      const manifest: Omit<BackupManifest, 'sha256'> = {
        documents,
        state_sha256: stateSha256,
        audit_included: auditIncluded,
        audit_entries: entries,
        audit_first: previous && entries > 0 ? { seq: previous.seq + 1, previous_hash: previous.hash } : null,
        audit_head: head,
        audit_verified: verdict?.ok ?? false,
      };
      const complete: BackupManifest = { ...manifest, sha256: manifestDigest({ ...header }, manifest) };
      return `\n${auditIncluded ? ']' : '}'},\n"manifest":${JSON.stringify(complete)}}\n`;
    },
    chainVerdict: () => verdict,
  };
}

/**
 * What follows the hash in an entry's object. Somebody who tampers with the table may have left no members, or something
 * that is no object: that breaks the chain, but must not break the file.
 */
function membersOf(entry: Buffer): Buffer {
  if (entry[0] !== OPENING_BRACE) return Buffer.concat([Buffer.from(',"entry":'), entry, Buffer.from('}')]);
  const members = entry.subarray(1);
  return members[0] === CLOSING_BRACE ? members : Buffer.concat([Buffer.from(','), members]);
}

const OPENING_BRACE = 0x7b;
const CLOSING_BRACE = 0x7d;

function separator(count: number): string {
  return count === 0 ? '\n' : ',\n';
}

/** Entries that hold among themselves must also end at the head that the state row names. */
function judge(chain: ChainCheck, head: AuditHead): { ok: boolean; firstBadSeq: number | null } {
  const last = chain.last();
  if (!chain.holds()) return { ok: false, firstBadSeq: chain.firstBadSeq() };
  if (last.seq === head.seq && last.hash === head.hash) return { ok: true, firstBadSeq: null };
  return { ok: false, firstBadSeq: last.seq === head.seq ? Math.max(head.seq, 1) : Math.min(last.seq, head.seq) + 1 };
}
