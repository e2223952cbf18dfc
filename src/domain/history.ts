import { z } from 'zod';
import type { TimeRange } from './audit.ts';
import { eventId, revision, seq, sha256, time } from './forms.ts';

/** Selects the changes of a document with seq < `before`, newest first. */
export interface HistoryQuery extends TimeRange {
  before?: number | undefined;
  limit: number;
}

export const recordedChangeSchema = z.object({
  seq: seq.describe('Seq of the audit entry'),
  revision: revision.describe('Revision of the document after the change'),
  event_id: eventId,
  recorded_at: time,
  action: z.string().describe('Action of the entry. What a restore did to documents is in "restore.changes" entries'),
  actor: z.string().nullable().describe('Kind of token: client or admin. Null only in a trail of another program'),
  actor_name: z.string().exactOptional().describe('On whose behalf the request was made, if it said so'),
  op: z
    .enum(['put', 'merge', 'delete', 'unknown'])
    .describe('unknown: a restore or undo by a node of an earlier version, which may have changed the document'),
  sha256: sha256
    .nullable()
    .describe('Digest of the document after the change; null if it was deleted, or if the entry does not tell'),
});

/** Describes one change of a document, as the audit trail records it. */
export type RecordedChange = z.output<typeof recordedChangeSchema>;

export const documentHistorySchema = z.object({
  name: z.string(),
  history: z.array(recordedChangeSchema).describe('Newest first'),
  next: seq.nullable().describe('Value of "before" for the next page; null on the last page'),
});

export type DocumentHistory = z.output<typeof documentHistorySchema>;
