/** Who asked for a change, as the audit entry names it. */
export type Actor = 'admin' | 'client';

/**
 * One change of one document. `json` is JSON text as the scanner captures it: it goes to PostgreSQL as it is.
 * `merge` is a merge patch (RFC 7396).
 */
export type Change =
  | { op: 'put'; name: string; json: string }
  | { op: 'merge'; name: string; json: string }
  | { op: 'delete'; name: string };

/**
 * What must hold for a commit to be made (RFC 9110 §13.1). `document` is the target, `null` the whole state. Tags are
 * opaque tags without quotes, as `"<epoch>.<revision>"` holds them; `*` means "exists".
 */
export interface Precondition {
  document: string | null;
  ifMatch?: '*' | string[] | undefined;
  ifNoneMatch?: '*' | string[] | undefined;
}

/** `document.*` changes one document; `state.patch` several; `state.put` makes the puts the whole state. */
export type CommitAction = 'document.put' | 'document.patch' | 'document.delete' | 'state.put' | 'state.patch';

export interface CommitRequest {
  action: CommitAction;
  actor: Actor;
  requestId: string;
  idempotencyKey?: string | undefined;
  precondition?: Precondition | undefined;
  changes: Change[];
}

/** The answer to a commit that was made (or was already made, when `replayed`). */
export interface CommitReceipt {
  revision: number;
  epoch: string;
  eventId: string;
  /** Whether a document came into being that did not exist. */
  created: boolean;
  /** The same `Idempotency-Key` and change had been committed before: this is that first answer. */
  replayed: boolean;
}

/**
 * Resolves after the transaction has committed. Rejects with `precondition_failed`, `document_not_found` (delete),
 * `document_too_large`, `idempotency_key_reused`, `queue_full`, `state_busy`, `schema_ahead`, `database_unavailable`
 * (certainly not committed), `commit_outcome_unknown` or `draining`.
 */
export type SubmitCommit = (request: CommitRequest) => Promise<CommitReceipt>;

/** The strong entity tag of a document or of the state, with its quotes (RFC 9110 §8.8.3). */
export function entityTag(epoch: string, revision: number): string {
  return `"${epoch}.${revision}"`;
}
