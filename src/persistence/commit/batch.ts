import type { Pool } from 'pg';
import { type CommitReceipt, type CommitRequest, entityTag, type Precondition } from '../../domain/commit.ts';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { isConnectionFault } from '../connection/faults.ts';
import type { TimedQuery } from '../connection/query.ts';
import { withClient } from '../connection/transaction.ts';
import { CURRENT_SCHEMA_VERSION } from '../schema/schema.ts';

/** A commit with the id that it keeps when it has to be sent again, and its text as `loom_commit` takes it. */
export interface PreparedCommit {
  eventId: string;
  request: CommitRequest;
  text: string;
  /** Length of the text in UTF-8. */
  bytes: number;
}

/** What became of one commit of a batch. */
export type CommitOutcome = { receipt: CommitReceipt } | { error: LoomError };

type ResultRow =
  | { status: 'committed'; revision: number; epoch: string; event_id: string; created: boolean; replayed?: boolean }
  | { status: 'precondition_failed'; current_tag: string | null }
  | { status: 'document_not_found'; name: string }
  | { status: 'document_too_large'; name: string; bytes: number }
  | { status: 'too_many_changes'; deletes: number }
  | { status: 'idempotency_key_reused' };

/** Joins texts: the documents in a change are JSON text already, and stay as they are. */
export function prepareCommit(request: CommitRequest, eventId: string): PreparedCommit {
  const head = JSON.stringify({
    event_id: eventId,
    action: request.action,
    actor: request.actor,
    request_id: request.requestId,
    idempotency_key: request.idempotencyKey,
    precondition: request.precondition === undefined ? undefined : preconditionRow(request.precondition),
  });
  const changes = request.changes.map((change) => {
    const value = change.op === 'delete' ? '' : `,"value":${change.json}`;
    return `{"op":"${change.op}","name":${JSON.stringify(change.name)}${value}}`;
  });
  const text = `${head.slice(0, -1)},"changes":[${changes.join()}]}`;
  return { eventId, request, text, bytes: Buffer.byteLength(text) };
}

function preconditionRow(precondition: Precondition): Record<string, unknown> {
  return {
    document: precondition.document,
    if_match: precondition.ifMatch,
    if_none_match: precondition.ifNoneMatch,
  };
}

export interface CommitBatchOptions {
  stateKey: string;
  maxDocumentBytes: number;
}

/**
 * Makes a batch of commits in one transaction and one round trip; the outcomes come in the order of `commits`. Rejects
 * when nothing of it was made (`schema_ahead`, `state_busy`, `database_unavailable`, …), or with `commit_outcome_unknown`
 * when the connection broke before the answer. The same batch may be sent again: what was made is only answered.
 */
export async function commitBatch(
  pool: Pool,
  commits: PreparedCommit[],
  { stateKey, maxDocumentBytes }: CommitBatchOptions,
): Promise<CommitOutcome[]> {
  const rows = await sendBatch(pool, commits, { stateKey, maxDocumentBytes });
  if (rows === undefined) {
    throw new LoomError('schema_ahead', 'The database has a newer schema, which this node must not write to.');
  }
  return commits.map((commit, index) => outcome(commit, rows[index], maxDocumentBytes));
}

async function sendBatch(
  pool: Pool,
  commits: PreparedCommit[],
  { stateKey, maxDocumentBytes }: CommitBatchOptions,
): Promise<ResultRow[] | undefined> {
  const options = {
    max_document_bytes: maxDocumentBytes,
    max_deletes: limits.maxChangesPerCommit,
    lock_timeout_ms: limits.commitLockTimeoutMs,
  };
  const texts = `[${commits.map((one) => one.text).join()}]`;
  let sent = false;
  try {
    return await withClient(pool, async (client) => {
      sent = true;
      const statement: TimedQuery = {
        text: `select loom_commit($1, $2, $3) as results
                 from loom_meta
                where key = 'schema_compatible_from' and value::int <= $4`,
        values: [stateKey, texts, JSON.stringify(options), CURRENT_SCHEMA_VERSION],
        query_timeout: limits.commitTimeoutMs,
      };
      const result = await client.query<{ results: ResultRow[] }>(statement);
      return result.rows[0]?.results;
    });
  } catch (error) {
    if (!sent || !(isLoomError(error) && isConnectionFault(error.cause))) throw error;
    throw new LoomError('commit_outcome_unknown', 'The connection to the database broke before it answered.', {
      cause: error,
      retryAfterSeconds: 1,
    });
  }
}

function outcome(commit: PreparedCommit, row: ResultRow | undefined, maxDocumentBytes: number): CommitOutcome {
  if (row === undefined) throw new Error('loom_commit answered fewer results than commits');
  switch (row.status) {
    case 'committed': {
      const { revision, epoch, created, replayed = false } = row;
      return { receipt: { revision, epoch, eventId: row.event_id, created, replayed } };
    }
    case 'precondition_failed':
      return { error: preconditionFailed(commit.request.precondition, row.current_tag) };
    case 'document_not_found':
      return {
        error: new LoomError('document_not_found', `There is no document ${JSON.stringify(row.name)}.`, {
          document: row.name,
        }),
      };
    case 'document_too_large':
      return {
        error: new LoomError(
          'document_too_large',
          `Document "${row.name}" would have ${row.bytes} bytes; at most ${maxDocumentBytes} are allowed.`,
          { document: row.name },
        ),
      };
    case 'too_many_changes':
      return {
        error: new LoomError(
          'too_many_changes',
          `This would delete ${row.deletes} documents; one commit may delete ${limits.maxChangesPerCommit}.`,
        ),
      };
    case 'idempotency_key_reused':
      return {
        error: new LoomError('idempotency_key_reused', 'This Idempotency-Key was used for another change before.'),
      };
  }
}

function preconditionFailed(precondition: Precondition | undefined, currentTag: string | null): LoomError {
  const document = precondition?.document ?? null;
  const subject = document === null ? 'The state' : `Document "${document}"`;
  const separator = currentTag?.lastIndexOf('.') ?? 0;
  const etag = currentTag && entityTag(currentTag.slice(0, separator), Number(currentTag.slice(separator + 1)));
  const detail = etag === null ? `${subject} does not exist.` : `${subject} has the entity tag ${etag} now.`;
  return new LoomError('precondition_failed', detail, {
    currentEtag: etag,
    ...(document === null ? {} : { document }),
  });
}
