/** The chain's last entry. An empty chain has seq 0 and the genesis hash. */
export interface AuditHead {
  seq: number;
  /** Lower-case hex, 64 digits. */
  hash: string;
}

/** What the first entry's hash is linked to: 32 zero bytes. */
export const GENESIS_HASH = '0'.repeat(64);

/** The head of a chain without entries. */
export const EMPTY_HEAD: AuditHead = { seq: 0, hash: GENESIS_HASH };

/** Which entries to read, by seq. `document` keeps those whose changes name the document. */
export interface AuditQuery {
  after?: number | undefined;
  before?: number | undefined;
  limit: number;
  order: 'asc' | 'desc';
  action?: string | undefined;
  document?: string | undefined;
}

/** Names the members that every entry of `GET /v1/audit` has. */
export interface ListedEntry {
  seq: number;
  hash: string;
  action: string;
  event_id: string;
}

/** One entry as JSON text: the entry's members, and `hash`. */
export interface AuditLine {
  seq: number;
  text: string;
}

/** Why a chain does not hold. */
export type ChainFault =
  | 'hash_mismatch'
  | 'seq_gap'
  | 'seq_mismatch'
  | 'column_mismatch'
  | 'head_mismatch'
  | 'entries_missing';

/** The verdict over a whole chain in the database. */
export type AuditVerdict =
  | { ok: true; entries: number; head: AuditHead }
  | { ok: false; entries: number; head: AuditHead; first_bad_seq: number; reason: ChainFault; detail: string };
