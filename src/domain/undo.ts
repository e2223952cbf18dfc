import type { OperationReport } from './backup.ts';

/** Describes an undo record: what a restore or undo replaced. */
export interface UndoRecord {
  /** Event id of the restore or undo, as in its audit entry. */
  event_id: string;
  kind: 'restore' | 'undo';
  taken_at: string;
  revision: number;
  previous_revision: number;
  replaced_state: boolean;
  /** Number of documents whose earlier value is kept. */
  documents: number;
  audit_entries: number;
  /** Compressed size in the database. */
  bytes: number;
  /** Whether it contains a document, or an audit entry other than those of restores and undos. */
  substantial: boolean;
}

export interface UndoReport extends OperationReport {
  undone_at: string | null;
  /** Newest first. */
  undone: Pick<UndoRecord, 'event_id' | 'kind' | 'taken_at' | 'revision'>[];
  /** Whether the undo records match the digests in the audit trail; null if an older version wrote no digest. */
  undo_record_verified: true | null;
}
