/** The kind of token with which a change was requested, as the audit entry has it. */
export type Actor = 'admin' | 'client';

/**
 * One change of one document. `json` is JSON text as the scanner captures it, which PostgreSQL gets unchanged. `merge`
 * is a merge patch (RFC 7396).
 */
export type Change =
  | { op: 'put'; name: string; json: string }
  | { op: 'merge'; name: string; json: string }
  | { op: 'delete'; name: string };

/**
 * The condition for a commit (RFC 9110 §13.1). `document` is the target; `null` means the whole state. Tags are the
 * texts inside the quotes of `"<epoch>.<revision>"`; `*` means "exists".
 */
export interface Precondition {
  document: string | null;
  ifMatch?: '*' | string[];
  ifNoneMatch?: '*' | string[];
}

/** `document.*` changes one document, `state.patch` several. `state.put` replaces the whole state. */
export type CommitAction = 'document.put' | 'document.patch' | 'document.delete' | 'state.put' | 'state.patch';

export interface CommitRequest {
  action: CommitAction;
  actor: Actor;
  requestId: string;
  idempotencyKey?: string;
  precondition?: Precondition;
  changes: Change[];
}

/** The result of a commit. */
export interface CommitReceipt {
  revision: number;
  epoch: string;
  eventId: string;
  /** Whether the commit created a document. */
  created: boolean;
  /** Whether the same change with the same `Idempotency-Key` was committed before: this is the first receipt. */
  replayed: boolean;
}

/**
 * Resolves after the transaction has committed. Rejects with `precondition_failed`, `document_not_found` (for a
 * delete), `document_too_large`, `idempotency_key_reused`, `queue_full`, `state_busy`, `schema_ahead`,
 * `database_unavailable` or `draining`, which all mean that nothing was committed, or with `commit_outcome_unknown`.
 */
export type SubmitCommit = (request: CommitRequest) => Promise<CommitReceipt>;

/** Returns the strong entity tag of a document or of the state, with its quotes (RFC 9110 §8.8.3). */
export function entityTag(epoch: string, revision: number): string {
  return `"${epoch}.${revision}"`;
}
