import type { OperationReport } from './backup.ts';

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

export interface UndoReport extends OperationReport {
  undone_at: string | null;
  /** Newest first. */
  undone: Pick<UndoRecord, 'event_id' | 'kind' | 'taken_at' | 'revision'>[];
}
