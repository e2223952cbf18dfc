import { z } from 'zod';
import { operationReportSchema } from './backup.ts';
import { count, eventId, revision, time } from './forms.ts';

export const undoRecordSchema = z.object({
  event_id: eventId.describe('Event id of the restore or undo, as in its audit entry'),
  kind: z.enum(['restore', 'undo']),
  taken_at: time,
  revision,
  previous_revision: revision,
  replaced_state: z.boolean(),
  documents: count.describe('Number of documents whose earlier value is kept'),
  audit_entries: count,
  bytes: count.describe('Compressed size in the database'),
  substantial: z
    .boolean()
    .describe('Whether it contains a document, or an audit entry other than those of restores and undos'),
});

/** Describes an undo record: what a restore or undo replaced. */
export type UndoRecord = z.output<typeof undoRecordSchema>;

export const undoReportSchema = operationReportSchema.extend({
  undone_at: time.nullable().describe('Null in a dry run'),
  undone: z
    .array(undoRecordSchema.pick({ event_id: true, kind: true, taken_at: true, revision: true }))
    .describe('Newest first'),
  undo_record_verified: z
    .literal(true)
    .nullable()
    .describe(
      'Whether the undo records match the digests in the audit trail; null if an older version wrote no digest',
    ),
});

export type UndoReport = z.output<typeof undoReportSchema>;
