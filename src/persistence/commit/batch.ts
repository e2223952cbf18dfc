// persistence/commit/ queues commits and makes one call of `loom_commit` for a batch. It imports domain, errors, limits
// and, of persistence, connection/ and schema/. It must not read documents: `loom_commit` patches them.

import { type CommitReceipt, type CommitRequest, entityTag, type Precondition } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Connection } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { isConnectionFault } from '../connection/faults.ts';
import { CURRENT_SCHEMA_VERSION } from '../schema/schema.ts';
import { schemaAhead } from '../schema/serves.ts';
import type { SeenRevision } from './seen-revision.ts';

/** Holds a commit and its text for `loom_commit`. The event id stays the same when the commit is sent again. */
export interface PreparedCommit {
  eventId: string;
  request: CommitRequest;
  text: string;
  /** Length of the text in UTF-8. */
  bytes: number;
}

/**
 * Reports a commit. A deferred commit was not made, because the batch was used up: send it again, before later ones.
 */
export type CommitOutcome = { receipt: CommitReceipt } | { error: LoomError } | { deferred: true };

type ResultRow =
  | { status: 'committed'; revision: number; epoch: string; event_id: string; created: boolean; replayed?: boolean }
  | { status: 'precondition_failed'; current_tag: string | null }
  | { status: 'document_not_found'; name: string }
  | { status: 'document_too_large'; name: string; bytes: number }
  | { status: 'too_many_changes'; deletes: number }
  | { status: 'audit_entry_too_large'; bytes: number }
  | { status: 'commit_too_costly'; bytes: number }
  | { status: 'idempotency_key_outdated' }
  | { status: 'idempotency_key_reused' };

/** `timed`: the commit needs a transaction with a `statement_timeout`. */
interface DeferredRow {
  status: 'deferred';
  timed: boolean;
}

/** Builds the text of a commit. Joins strings, because the documents in `request` are already JSON text. */
export function prepareCommit(request: CommitRequest, eventId: string): PreparedCommit {
  const head = JSON.stringify({
    event_id: eventId,
    action: request.action,
    actor: request.actor,
    actor_name: request.actorName,
    request_id: request.requestId,
    idempotency_key: request.idempotencyKey,
    precondition: request.precondition && {
      document: request.precondition.document,
      if_match: request.precondition.ifMatch,
      if_none_match: request.precondition.ifNoneMatch,
    },
  });
  const changes = request.changes.map((change) => {
    const value = change.op === 'delete' ? '' : `,"value":${change.json}`;
    return `{"op":"${change.op}","name":${JSON.stringify(change.name)}${value}}`;
  });
  const text = `${head.slice(0, -1)},"changes":[${changes.join()}]}`;
  return { eventId, request, text, bytes: Buffer.byteLength(text) };
}

/**
 * Returns the options of a call of `loom_commit`, as JSON. `seen` is the highest revision that the node has seen, and
 * `stateAt` the place of the state row after its last commit, as PostgreSQL's `ctid`.
 */
export function commitOptions({
  maxDocumentBytes,
  lockTimeoutMs,
  timed,
  seen,
  stateAt,
}: {
  maxDocumentBytes: number;
  lockTimeoutMs: number;
  timed: boolean;
  seen: ReturnType<SeenRevision['highest']>;
  stateAt: string | null;
}): string {
  return JSON.stringify({
    max_document_bytes: maxDocumentBytes,
    max_deletes: limits.maxChangesPerCommit,
    lock_timeout_ms: Math.ceil(lockTimeoutMs),
    max_entry_bytes: limits.maxAuditEntryBytes,
    max_work_bytes: limits.maxCommitWorkBytes,
    max_batch_work_bytes: limits.maxBatchWorkBytes,
    max_untimed_work_bytes: limits.maxUntimedWorkBytes,
    max_hold_ms: limits.maxCommitHoldMs,
    max_merge_ms: limits.maxCommitMergeMs,
    timed,
    seen,
    schema_version: CURRENT_SCHEMA_VERSION,
    state_at: stateAt,
  });
}

export interface CommitBatchOptions {
  stateKey: string;
  maxDocumentBytes: number;
  /** The highest revision of the state that this node has seen. */
  seen: SeenRevision;
  /** Called just before the batch is sent. If it throws, nothing is sent. */
  beforeSend?: () => void;
}

/** Bounds one attempt to commit a batch. */
export interface AttemptBounds {
  /** Time to wait for the answer. A connection that has gone silent is left sooner. */
  timeoutMs: number;
  /**
   * Time to wait for the lock of the state row. PostgreSQL counts it for the place in the line of waiting transactions,
   * and again for the row.
   */
  lockTimeoutMs: number;
}

/**
 * Returns a function that commits a batch in one transaction and returns the outcomes in the order of `commits`. It
 * rejects if nothing was committed (`schema_ahead`, `state_busy`, `database_unavailable`, …), or with
 * `commit_outcome_unknown` when the connection broke before the answer. Sending the same batch again is safe:
 * `loom_commit` finds commits by event id.
 *
 * A small batch is a single statement. A large one, or one that `loom_commit` found to be large, needs a transaction,
 * because PostgreSQL reads `statement_timeout` when a statement begins. So does every batch if the default isolation of
 * the role or database is not READ COMMITTED.
 */
export function createCommitBatch(
  database: Database,
  { stateKey, maxDocumentBytes, seen, beforeSend = () => undefined }: CommitBatchOptions,
): (commits: PreparedCommit[], bounds: AttemptBounds) => Promise<CommitOutcome[]> {
  let needsIsolation = false;
  let isTimedNext = false;
  let stateAt: string | null = null;

  const callFor = (commits: PreparedCommit[], lockTimeoutMs: number, timed: boolean): unknown[] => [
    stateKey,
    `[${commits.map((one) => one.text).join()}]`,
    commitOptions({ maxDocumentBytes, lockTimeoutMs, timed, seen: seen.highest(), stateAt }),
  ];

  /** Commits, and reports a connection that broke after the batch was sent: only the database knows the outcome. */
  async function send(commits: PreparedCommit[], bounds: AttemptBounds, timed: boolean): Promise<Results> {
    let sent = false;
    const options = {
      timeoutMs: bounds.timeoutMs,
      beforeSend: () => {
        beforeSend();
        sent = true;
      },
    };
    const commit = timed ? commitInTransaction : commitInOneStatement;
    const call = callFor(commits, bounds.lockTimeoutMs, timed);
    const answer = await commit(database, call, options).catch((error: unknown) => {
      if (!sent || !isConnectionFault(error)) throw error;
      const detail = 'The connection to the database broke before the database answered.';
      throw new LoomError('commit_outcome_unknown', detail, { cause: error, retryAfterSeconds: 1 });
    });
    if (answer === null) return null;
    stateAt = answer.state_at;
    return answer.results;
  }

  return async (commits, bounds) => {
    const timed = isTimedNext || commits.reduce((sum, one) => sum + one.bytes, 0) > limits.maxUntimedBatchBytes;
    let results: Results = null;
    if (!timed && !needsIsolation) {
      results = await send(commits, bounds, false);
      needsIsolation = results === null;
    }
    results ??= await send(commits, bounds, true);
    if (results === null) throw new Error('loom_commit refused the isolation of its own transaction');
    isTimedNext = results.some((row) => row.status === 'deferred' && row.timed);
    const outcomes = results.map((row, index) => toOutcome(commits[index], row, maxDocumentBytes));
    for (const outcome of outcomes) if ('receipt' in outcome) seen.note(outcome.receipt);
    return outcomes;
  };
}

type Results = (ResultRow | DeferredRow)[] | null;

interface Answer {
  results: (ResultRow | DeferredRow)[];
  state_at: string | null;
}

/** Before schema version 7, `loom_commit` answers with the results alone. */
type CommitAnswer = Answer | Answer['results'] | SchemaAhead | null;

/** Reports a schema that no longer serves this node. Nothing was committed. */
interface SchemaAhead {
  status: 'schema_ahead';
}

interface CallOptions {
  /** Time to wait for the answer. A connection that has gone silent is left sooner. */
  timeoutMs: number;
  beforeSend: () => void;
}

/** Returns null, without a commit, if the default isolation is not READ COMMITTED. */
function commitInOneStatement(database: Database, call: unknown[], options: CallOptions): Promise<Answer | null> {
  return database.withConnection((connection) => callCommit(connection, call, options), { lane: 'commit' });
}

/** Commits within `limits.commitStatementTimeoutMs`, or not at all. */
function commitInTransaction(database: Database, call: unknown[], options: CallOptions): Promise<Answer | null> {
  const run = async (connection: Connection) => {
    const statementTimeout = String(limits.commitStatementTimeoutMs);
    await connection.within().execute(`select set_config('statement_timeout', $1, true)`, [statementTimeout]);
    return await callCommit(connection, call, options);
  };
  return database.transaction('write', run, { lane: 'commit', timeoutMs: options.timeoutMs });
}

async function callCommit(
  connection: Connection,
  call: unknown[],
  { timeoutMs, beforeSend }: CallOptions,
): Promise<Answer | null> {
  beforeSend();
  const row = await connection.watched(timeoutMs).firstRow<{ answer: CommitAnswer }>(COMMIT, call);
  const answer = row?.answer ?? null;
  if (answer === null) return null;
  if ('status' in answer) throw schemaAhead();
  return 'results' in answer ? answer : { results: answer, state_at: null };
}

const COMMIT = 'select loom_commit($1, $2, $3) as answer';

function toOutcome(
  commit: PreparedCommit | undefined,
  row: ResultRow | DeferredRow,
  maxDocumentBytes: number,
): CommitOutcome {
  if (commit === undefined) throw new Error('loom_commit returned more results than commits');
  if (row.status === 'deferred') return { deferred: true };
  if (row.status !== 'committed') return { error: refusalOf(commit, row, maxDocumentBytes) };
  const { revision, epoch, created, replayed = false } = row;
  return { receipt: { revision, epoch, eventId: row.event_id, created, replayed } };
}

function refusalOf(
  { request }: PreparedCommit,
  row: Exclude<ResultRow, { status: 'committed' }>,
  maxDocumentBytes: number,
): LoomError {
  const refuse = (detail: string, document?: string) =>
    new LoomError(row.status, detail, document === undefined ? {} : { document });
  switch (row.status) {
    case 'precondition_failed':
      return preconditionFailed(request.precondition, row.current_tag);
    case 'document_not_found':
      return refuse(`Document ${JSON.stringify(row.name)} does not exist.`, row.name);
    case 'document_too_large':
      return refuse(
        `Document "${row.name}" would have ${row.bytes} bytes, and at most ${maxDocumentBytes} are allowed.`,
        row.name,
      );
    case 'too_many_changes':
      return refuse(
        `The commit would delete ${row.deletes} documents, and at most ${limits.maxChangesPerCommit} are allowed.`,
      );
    case 'audit_entry_too_large':
      return refuse(
        `The audit entry of the commit would have ${row.bytes} bytes, and at most ${limits.maxAuditEntryBytes} are ` +
          'allowed. Long document names count, also those of deleted documents. Make several commits.',
      );
    case 'commit_too_costly':
      return refuse(
        `The commit would rewrite documents of ${row.bytes} bytes, and at most ${limits.maxCommitWorkBytes} in ` +
          `${limits.maxCommitMergeMs / 1_000} seconds are allowed. Make several commits, or split the documents.`,
      );
    case 'idempotency_key_outdated':
      return refuse(
        'This change was committed before a restore or undo, which may have removed it. Read the document. To make ' +
          'the change again, use a new Idempotency-Key.',
      );
    case 'idempotency_key_reused':
      return refuse('This Idempotency-Key was already used for another change. Use a new key.');
  }
}

function preconditionFailed(precondition: Precondition | undefined, currentTag: string | null): LoomError {
  const document = precondition?.document ?? null;
  const subject = document === null ? 'The state' : `Document "${document}"`;
  const separator = currentTag?.lastIndexOf('.') ?? 0;
  const etag = currentTag && entityTag(currentTag.slice(0, separator), Number(currentTag.slice(separator + 1)));
  const detail = etag === null ? `${subject} does not exist.` : `${subject} now has the entity tag ${etag}.`;
  return new LoomError('precondition_failed', detail, {
    currentEtag: etag,
    ...(document === null ? {} : { document }),
  });
}
