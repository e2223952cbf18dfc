import { z } from 'zod';
import type { Caller } from './actor.ts';
import { epoch, eventId, revision } from './forms.ts';

/**
 * Changes one document. `json` is the text that the scanner captured, and PostgreSQL receives it unchanged. `merge` is
 * a merge patch (RFC 7396).
 */
export type Change =
  | { op: 'put'; name: string; json: string }
  | { op: 'merge'; name: string; json: string }
  | { op: 'delete'; name: string };

/**
 * Describes the preconditions of a request (RFC 9110 §13.1). `document` is their target; null means the whole state.
 * Tags have the form `<epoch>.<revision>`, without quotes. `*` means "exists".
 */
export interface Precondition {
  document: string | null;
  ifMatch?: '*' | string[] | undefined;
  ifNoneMatch?: '*' | string[] | undefined;
}

/** Lists the actions of entries that are commits. */
export const commitActions = ['document.put', 'document.patch', 'document.delete', 'state.put', 'state.patch'] as const;

/** Names the action: `document.*` changes one document, `state.patch` several, `state.put` the whole state. */
export type CommitAction = (typeof commitActions)[number];

export interface CommitRequest extends Caller {
  action: CommitAction;
  requestId: string;
  idempotencyKey?: string | undefined;
  precondition?: Precondition | undefined;
  changes: Change[];
}

export const receiptSchema = z.object({
  revision,
  epoch,
  event_id: eventId.describe('Names the audit entry of the commit'),
  created: z.boolean().describe('Whether the commit created the document. For the state: always false'),
});

/** Describes the answer to a commit. */
export type Receipt = z.output<typeof receiptSchema>;

export interface CommitReceipt {
  revision: number;
  epoch: string;
  eventId: string;
  created: boolean;
  /** Whether this is the receipt of an earlier request with the same `Idempotency-Key`. */
  replayed: boolean;
}

/**
 * Commits a request, and resolves after the transaction has committed. Rejects with `commit_outcome_unknown` when the
 * commit may have taken place. All other codes mean that nothing was committed: `precondition_failed`,
 * `document_not_found` (of a delete), `document_too_large`, `audit_entry_too_large`, `commit_too_costly`,
 * `idempotency_key_reused`, `idempotency_key_outdated`, `queue_full`, `state_busy`, `schema_ahead`,
 * `database_unavailable` or `draining`.
 */
export type SubmitCommit = (request: CommitRequest) => Promise<CommitReceipt>;

/** Returns the strong entity tag of a document or of the state, with its quotes (RFC 9110 §8.8.3). */
export function entityTag(epoch: string, revision: number): string {
  return `"${epoch}.${revision}"`;
}
