import type { AuditHead } from './audit.ts';
import type { DocumentCounts, DocumentNames } from './backup.ts';

/** What a restore or undo replaced, kept so that it can be undone. */
export interface UndoRecord {
  /** Of the restore or undo, as in its audit entry. */
  event_id: string;
  kind: 'restore' | 'undo';
  taken_at: string;
  revision: number;
  previous_revision: number;
  replaced_state: boolean;
  /** Documents of which it says what they were. */
  documents: number;
  audit_entries: number;
  /** What it takes in the database, compressed as it is stored. */
  bytes: number;
  /** Whether it replaced any document, or any audit entry but those of other restores and undos. */
  substantial: boolean;
}

export interface UndoRequest {
  dryRun: boolean;
  expectRevision?: number;
  /** Of a restore or undo that is kept: it and all later ones are undone. The newest when left out. */
  eventId?: string;
}

/** What an undo did, or with `dry_run` would do. */
export interface UndoReport {
  dry_run: boolean;
  undone_at: string | null;
  /** Newest first. */
  undone: Pick<UndoRecord, 'event_id' | 'kind' | 'taken_at' | 'revision'>[];
  replaced_state: boolean;
  imported_audit_count: number;
  revision: number;
  /** As in a restore. */
  epoch: string | null;
  based_on_revision: number;
  event_id: string | null;
  documents: DocumentCounts;
  document_names: DocumentNames;
  audit: { imported: number; previous_head: AuditHead; head: AuditHead | null };
  warnings: string[];
}
