import type { Readable } from 'node:stream';
import type { Pool, PoolClient } from 'pg';
import type { StoredDocument } from '../../domain/document.ts';
import type { StateHead } from '../../domain/state.ts';
import type { DocumentPage, DocumentQuery, StateStream } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import { copyLines, splitFields } from '../connection/copy.ts';
import { queryRows } from '../connection/query.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { openStream, type Sink } from './stream.ts';

/** Where the state stands. Throws `starting` when its row has not been made yet. */
export async function readStateHead(client: Pool | PoolClient, stateKey: string): Promise<StateHead> {
  const rows = await queryRows<Omit<StateHead, 'stateKey' | 'head'> & { seq: number; hash: string }>(
    client,
    `select epoch, revision, documents, bytes, audit_seq as seq, encode(audit_hash, 'hex') as hash,
            ${rfc3339('last_backup_at')} as "lastBackupAt", ${rfc3339('last_restore_at')} as "lastRestoreAt",
            ${rfc3339('updated_at')} as "updatedAt"
       from loom_state where state_key = $1`,
    [stateKey],
  );
  const row = rows[0];
  if (row === undefined) throw new LoomError('starting', 'The state does not exist yet.', { retryAfterSeconds: 1 });
  const { seq, hash, ...rest } = row;
  return { stateKey, ...rest, head: { seq, hash } };
}

/** One document, or undefined. */
export async function readDocument(pool: Pool, stateKey: string, name: string): Promise<StoredDocument | undefined> {
  const rows = await queryRows<StoredDocument>(
    pool,
    `select d.value::text as text, d.revision, s.epoch, ${rfc3339('d.updated_at')} as "updatedAt"
       from loom_document d join loom_state s using (state_key)
      where d.state_key = $1 and d.name = $2`,
    [stateKey, name],
  );
  return rows[0];
}

/** One page of the documents, in byte order of their names. */
export async function listDocuments(pool: Pool, stateKey: string, query: DocumentQuery): Promise<DocumentPage> {
  const rows = await queryRows<{ epoch: string; revision: number; documents: DocumentPage['documents'] }>(
    pool,
    `select s.epoch, s.revision,
            coalesce((
              select json_agg(json_build_object('name', d.name, 'revision', d.revision, 'bytes', d.bytes,
                       'updated_at', ${rfc3339('d.updated_at')}) order by d.name)
                from (select name, revision, bytes, updated_at from loom_document
                       where state_key = $1 and name > $2 and name >= $3 and starts_with(name, $3)
                       order by name limit $4) d), '[]') as documents
       from loom_state s where s.state_key = $1`,
    [stateKey, query.after ?? '', query.prefix ?? '', query.limit + 1],
  );
  const row = rows[0];
  if (row === undefined) throw new LoomError('starting', 'The state does not exist yet.', { retryAfterSeconds: 1 });
  const documents = row.documents.slice(0, query.limit);
  const next = row.documents.length > query.limit ? (documents.at(-1)?.name ?? null) : null;
  return { documents, next, epoch: row.epoch, revision: row.revision };
}

/** All documents as the text of one JSON object, streamed from one snapshot. */
export async function openState(pool: Pool, stateKey: string): Promise<StateStream> {
  const { head, body } = await openStream(pool, {
    prepare: async (client) => {
      await selectStateKey(client, stateKey);
      return readStateHead(client, stateKey);
    },
    write: (client, _head, sink) => writeState(client, sink),
  });
  return { epoch: head.epoch, revision: head.revision, body: body satisfies Readable };
}

/** COPY takes no parameters; a transaction-local setting gives them to its query without a word of them in the SQL. */
export async function selectStateKey(client: PoolClient, stateKey: string): Promise<void> {
  await client.query(`select set_config('loom.state_key', $1, true)`, [stateKey]);
}

/** The query of all documents, for `copyLines`: name and canonical text. */
export const ALL_DOCUMENTS = `select name, value::text from loom_document
  where state_key = current_setting('loom.state_key') order by name`;

async function writeState(client: PoolClient, sink: Sink): Promise<void> {
  let separator = '{';
  for await (const lines of copyLines(client, ALL_DOCUMENTS)) {
    const parts: Buffer[] = [];
    for (const line of lines) {
      const [name, value] = splitFields(line);
      parts.push(Buffer.from(`${separator}${JSON.stringify(name.toString('utf8'))}:`), value);
      separator = ',\n';
    }
    await sink.write(Buffer.concat(parts));
  }
  await sink.write(separator === '{' ? '{}\n' : '}\n');
}
