/** Names the kind of token that requested a change, as in the audit entry. */
export type Actor = 'admin' | 'client';

/**
 * Changes one document. `json` is the text that the scanner captured, and PostgreSQL receives it unchanged. `merge` is
 * a merge patch (RFC 7396).
 */
export type Change =
  | { op: 'put'; name: string; json: string }
  | { op: 'merge'; name: string; json: string }
  | { op: 'delete'; name: string };

/**
 * Sets the condition for a commit (RFC 9110 §13.1). `document` is the target; null means the whole state. Tags are
 * without their quotes: `<epoch>.<revision>`. `*` means "exists".
 */
export interface Precondition {
  document: string | null;
  ifMatch?: '*' | string[] | undefined;
  ifNoneMatch?: '*' | string[] | undefined;
}

/** Names the action: `document.*` changes one document, `state.patch` several, `state.put` the whole state. */
export type CommitAction = 'document.put' | 'document.patch' | 'document.delete' | 'state.put' | 'state.patch';

export interface CommitRequest {
  action: CommitAction;
  actor: Actor;
  requestId: string;
  idempotencyKey?: string | undefined;
  precondition?: Precondition | undefined;
  changes: Change[];
}

export interface CommitReceipt {
  revision: number;
  epoch: string;
  eventId: string;
  /** Whether the commit created a document. */
  created: boolean;
  /** Whether an earlier request with the same `Idempotency-Key` made this commit. The receipt is that request's. */
  replayed: boolean;
}

/**
 * Resolves after the transaction has committed. Rejects with `commit_outcome_unknown`, or because nothing was committed:
 * with `precondition_failed`, `document_not_found` (of a delete), `document_too_large`, `idempotency_key_reused`,
 * `queue_full`, `state_busy`, `schema_ahead`, `database_unavailable` or `draining`.
 */
export type SubmitCommit = (request: CommitRequest) => Promise<CommitReceipt>;

/** Returns the strong entity tag of a document or of the state, with its quotes (RFC 9110 §8.8.3). */
export function entityTag(epoch: string, revision: number): string {
  return `"${epoch}.${revision}"`;
}
