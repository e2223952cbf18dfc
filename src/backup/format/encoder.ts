import type { AuditHead } from '../../domain/audit.ts';
import type { BackupHeader, BackupManifest } from '../../domain/backup.ts';
import { type ChainCheck, manifestDigest } from './digests.ts';
import { createDocumentSection, type EncodedDocuments, type Rows } from './document-section.ts';
import { createEntrySection } from './entry-section.ts';

/**
 * Encodes one backup in this order: `begin`, `document`*, `beginDigests`, `digest`*, optionally `beginAudit` and
 * `entry`*, then `end`. Each call returns the next bytes of the file. A call out of order throws, so every finished
 * backup has this shape. Each document, digest and entry has its own line.
 *
 * `documents`, `digests` and `entries` take many rows at once. A row has the same fields as the call for one.
 */
export interface BackupEncoder {
  begin(header: BackupHeader): string;
  /** Names must come in byte order. `text` is the canonical text. */
  document(name: Buffer, text: Buffer): Buffer;
  documents(rows: Rows): EncodedDocuments;
  beginDigests(): string;
  digest(name: Buffer, sha256Hex: string): string;
  /** The digests have 32 bytes. */
  digests(rows: Rows): Buffer[];
  beginAudit(previous: AuditHead): string;
  /** `text` is the canonical text of the entry without its hash. */
  entry(seq: number, hash: string, text: Buffer): Buffer;
  /** The seq has 8 bytes, the hash 32. Compares the seq with that in the text. */
  entries(rows: Rows): Buffer[];
  end(head: AuditHead): string;
  /** Returns the verdict after `end`; undefined when the backup has no audit trail. */
  chainVerdict(): ChainVerdict | undefined;
  /** Returns the manifest after `end`; undefined before. */
  manifest(): BackupManifest | undefined;
}

interface ChainVerdict {
  ok: boolean;
  firstBadSeq: number | null;
}

type EntrySection = ReturnType<typeof createEntrySection>;

const EMPTY = Buffer.alloc(0);

type Section = 'nothing' | 'state' | 'digests' | 'audit' | 'done';

export function createBackupEncoder(): BackupEncoder {
  let section: Section = 'nothing';
  let header: BackupHeader | undefined;
  let previous: AuditHead | undefined;
  let verdict: ChainVerdict | undefined;
  let written: BackupManifest | undefined;
  const documents = createDocumentSection();
  let audit: EntrySection | undefined;

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
      return Buffer.concat(documents.documents(pairOf(name, text)).parts);
    },
    documents: (rows) => {
      enter('state', 'state');
      return documents.documents(rows);
    },
    beginDigests: () => {
      enter('digests', 'state');
      return '\n},\n"document_sha256":{';
    },
    digest: (name, sha256Hex) => {
      enter('digests', 'digests');
      return Buffer.concat(documents.digests(pairOf(name, Buffer.from(sha256Hex, 'hex')))).toString('utf8');
    },
    digests: (rows) => {
      enter('digests', 'digests');
      return documents.digests(rows);
    },
    beginAudit: (given) => {
      enter('audit', 'digests');
      previous = given;
      audit = createEntrySection(given);
      return '\n},\n"audit_entries":[';
    },
    entry: (seq, hash, text) => {
      enter('audit', 'audit');
      return audit?.entry(seq, hash, text) ?? EMPTY;
    },
    entries: (rows) => {
      enter('audit', 'audit');
      return audit?.entries(rows) ?? [];
    },
    end: (head) => {
      const auditIncluded = audit !== undefined;
      const entries = audit?.count() ?? 0;
      enter('done', 'digests', 'audit');
      if (header === undefined) throw new Error('the backup has no header');
      const { documents: count, sha256: stateSha256 } = documents.end();
      if (audit !== undefined) verdict = verdictOf(audit.chain, head);
      const manifest: Omit<BackupManifest, 'sha256'> = {
        documents: count,
        state_sha256: stateSha256,
        audit_included: auditIncluded,
        audit_entries: entries,
        audit_first: previous && entries > 0 ? { seq: previous.seq + 1, previous_hash: previous.hash } : null,
        audit_head: head,
        audit_verified: verdict?.ok ?? false,
      };
      const complete: BackupManifest = { ...manifest, sha256: manifestDigest({ ...header }, manifest) };
      written = complete;
      return `\n${auditIncluded ? ']' : '}'},\n"manifest":${JSON.stringify(complete)}}\n`;
    },
    chainVerdict: () => verdict,
    manifest: () => written,
  };
}

/** Returns a row of two fields. */
function pairOf(first: Buffer, second: Buffer): Rows {
  const length = first.length + second.length;
  return { bytes: Buffer.concat([first, second]), fields: [0, first.length, first.length, length] };
}

/** Compares the end of the chain with the head in the state row. */
function verdictOf(chain: ChainCheck, head: AuditHead): ChainVerdict {
  const last = chain.last();
  if (!chain.isValid()) return { ok: false, firstBadSeq: chain.firstBadSeq() };
  if (last.seq === head.seq && last.hash === head.hash) return { ok: true, firstBadSeq: null };
  return { ok: false, firstBadSeq: last.seq === head.seq ? Math.max(head.seq, 1) : Math.min(last.seq, head.seq) + 1 };
}
