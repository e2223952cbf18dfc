import type { AuditHead } from '../../domain/audit.ts';
import type { BackupHeader, BackupManifest } from '../../domain/backup.ts';
import { type ChainCheck, createChainCheck, createStateDigest, manifestDigest, sha256 } from './digests.ts';

/**
 * Encodes one backup in this order: `begin`, `document`*, `beginDigests`, `digest`*, optionally `beginAudit` and
 * `entry`*, then `end`. Each call returns the next bytes of the file. A call out of order throws, so every finished
 * backup has this shape. Each document, digest and entry has its own line.
 */
export interface BackupEncoder {
  begin(header: BackupHeader): string;
  /** Names must come in byte order. `text` is the canonical text. */
  document(name: Buffer, text: Buffer): Buffer;
  beginDigests(): string;
  digest(name: Buffer, sha256Hex: string): string;
  beginAudit(previous: AuditHead): string;
  /** `text` is the canonical text of the entry without its hash. */
  entry(seq: number, hash: string, text: Buffer): Buffer;
  end(head: AuditHead): string;
  /** Returns the verdict after `end`; undefined when the backup has no audit trail. */
  chainVerdict(): ChainVerdict | undefined;
}

interface ChainVerdict {
  ok: boolean;
  firstBadSeq: number | null;
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
  let verdict: ChainVerdict | undefined;
  /** Digests of the documents as written and as stored. They differ after tampering with the table. */
  const written = createStateDigest();
  const stored = createStateDigest();

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
      stored.add(name, Buffer.from(sha256Hex, 'hex'));
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
      return Buffer.concat([Buffer.from(`${separator(entries++)}{"hash":"${hash}"`), ...membersOf(text)]);
    },
    end: (head) => {
      const auditIncluded = section === 'audit';
      enter('done', 'digests', 'audit');
      if (header === undefined || digests !== documents) throw new Error('the backup has documents without a digest');
      const stateSha256 = written.end();
      if (stored.end() !== stateSha256) throw new Error('a document does not match its stored digest');
      if (auditIncluded) verdict = verdictOf(chain, head);
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
 * Returns the rest of an entry's object after its hash. After tampering with the table, an entry may be empty or not an
 * object. The chain is then broken, but the file must still be valid JSON.
 */
function membersOf(entry: Buffer): Buffer[] {
  if (entry[0] !== OPENING_BRACE) return [Buffer.from(',"entry":'), entry, Buffer.from('}')];
  const members = entry.subarray(1);
  return members[0] === CLOSING_BRACE ? [members] : [Buffer.from(','), members];
}

const OPENING_BRACE = 0x7b;
const CLOSING_BRACE = 0x7d;

function separator(count: number): string {
  return count === 0 ? '\n' : ',\n';
}

/** Compares the end of the chain with the head in the state row. */
function verdictOf(chain: ChainCheck, head: AuditHead): ChainVerdict {
  const last = chain.last();
  if (!chain.isValid()) return { ok: false, firstBadSeq: chain.firstBadSeq() };
  if (last.seq === head.seq && last.hash === head.hash) return { ok: true, firstBadSeq: null };
  return { ok: false, firstBadSeq: last.seq === head.seq ? Math.max(head.seq, 1) : Math.min(last.seq, head.seq) + 1 };
}
