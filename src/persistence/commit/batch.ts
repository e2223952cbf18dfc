// persistence/commit/ queues commits and makes one call of `loom_commit` for a batch. It imports domain, errors, limits
// and, of persistence, connection/ and schema/. It must not read documents: `loom_commit` patches them.

import { type CommitReceipt, type CommitRequest, entityTag, type Precondition } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Connection } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { isConnectionFault } from '../connection/faults.ts';
import { SCHEMA_SERVES, schemaAhead } from '../schema/serves.ts';

/** Holds a commit and its text for `loom_commit`. The event id stays the same when the commit is sent again. */
export interface PreparedCommit {
  eventId: string;
  request: CommitRequest;
  text: string;
  /** Length of the text in UTF-8. */
  bytes: number;
}

export type CommitOutcome = { receipt: CommitReceipt } | { error: LoomError };

type ResultRow =
  | { status: 'committed'; revision: number; epoch: string; event_id: string; created: boolean; replayed?: boolean }
  | { status: 'precondition_failed'; current_tag: string | null }
  | { status: 'document_not_found'; name: string }
  | { status: 'document_too_large'; name: string; bytes: number }
  | { status: 'too_many_changes'; deletes: number }
  | { status: 'idempotency_key_reused' };

/** Builds the text of a commit. Joins strings, because the documents in `request` are already JSON text. */
export function prepareCommit(request: CommitRequest, eventId: string): PreparedCommit {
  const head = JSON.stringify({
    event_id: eventId,
    action: request.action,
    actor: request.actor,
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

export interface CommitBatchOptions {
  stateKey: string;
  maxDocumentBytes: number;
  /** Called just before the batch is sent. If it throws, nothing is sent. */
  beforeSend?: () => void;
}

/**
 * Commits a batch in one transaction and one round trip. Returns the outcomes in the order of `commits`. Rejects if
 * nothing was committed (`schema_ahead`, `state_busy`, `database_unavailable`, …), or with `commit_outcome_unknown`
 * when the connection broke before the answer. Sending the same batch again is safe: `loom_commit` finds commits by
 * event id.
 */
export async function commitBatch(
  database: Database,
  commits: PreparedCommit[],
  { stateKey, maxDocumentBytes, beforeSend }: CommitBatchOptions,
): Promise<CommitOutcome[]> {
  const options = {
    max_document_bytes: maxDocumentBytes,
    max_deletes: limits.maxChangesPerCommit,
    lock_timeout_ms: limits.commitLockTimeoutMs,
  };
  const texts = `[${commits.map((one) => one.text).join()}]`;
  let sent = false;
  const send = async (connection: Connection) => {
    beforeSend?.();
    sent = true;
    return await connection
      .within(limits.commitTimeoutMs)
      .firstRow<{ results: ResultRow[] }>(COMMIT, [stateKey, texts, JSON.stringify(options)]);
  };
  const row = await database.withConnection(send).catch((error: unknown) => {
    if (!sent || !isConnectionFault(error)) throw error;
    const detail = 'The connection to the database broke before the database answered.';
    throw new LoomError('commit_outcome_unknown', detail, { cause: error, retryAfterSeconds: 1 });
  });
  if (row === undefined) throw schemaAhead();
  return commits.map((commit, index) => toOutcome(commit, row.results[index], maxDocumentBytes));
}

const COMMIT = `select loom_commit($1, $2, $3) as results where ${SCHEMA_SERVES}`;

function toOutcome(commit: PreparedCommit, row: ResultRow | undefined, maxDocumentBytes: number): CommitOutcome {
  if (row === undefined) throw new Error('loom_commit returned fewer results than commits');
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
