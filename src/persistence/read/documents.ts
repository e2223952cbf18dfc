// persistence/read/ reads single documents (document.ts), a page of documents, or the whole state as a stream. It
// imports domain, errors, limits and, of persistence, connection/ and state/. It never writes.

import type { DocumentPage } from '../../domain/document.ts';
import type { StateHead } from '../../domain/state.ts';
import type { DocumentQuery, StateStream } from '../../domain/store.ts';
import type { Connection } from '../connection/connection.ts';
import { splitFields } from '../connection/copy.ts';
import type { Database } from '../connection/database.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { assertConsistent, assertTotals, assertUnfiltered, IS_FILTERED } from '../state/consistency.ts';
import { readStateHead, requireState, selectStateKey } from '../state/state-row.ts';
import { openStream, type Sink, type StreamContext, writeParts } from './stream.ts';

type Filter = { isFiltered: boolean };

/** Reads one page of the documents, in byte order of their names. */
export async function listDocuments(database: Database, stateKey: string, query: DocumentQuery): Promise<DocumentPage> {
  const row = await database.firstRow<
    Filter & { epoch: string; revision: number; documents: DocumentPage['documents'] }
  >(
    `select s.epoch, s.revision, ${IS_FILTERED},
            coalesce((
              select json_agg(json_build_object('name', d.name, 'revision', d.revision, 'bytes', d.bytes,
                       'updated_at', ${rfc3339('d.updated_at')}) order by d.name)
                from (select name, revision, bytes, updated_at from loom_document
                       where state_key = $1 and name > $2 and name >= $3 and starts_with(name, $3)
                       order by name limit $4) d), '[]') as documents
       from loom_state s where s.state_key = $1`,
    [stateKey, query.after ?? '', query.prefix ?? '', query.limit + 1],
  );
  const { epoch, revision, documents: found, isFiltered } = requireState(row);
  assertUnfiltered(isFiltered);
  const documents = found.slice(0, query.limit);
  const next = found.length > query.limit ? (documents.at(-1)?.name ?? null) : null;
  return { documents, next, epoch, revision };
}

/** Streams all documents of one transaction snapshot as the text of one JSON object. */
export async function openState(
  database: Database,
  stateKey: string,
  { memory, signal }: StreamContext,
): Promise<StateStream> {
  const { head, body } = await openStream(database, {
    memory,
    signal,
    prepare: async (connection) => {
      await selectStateKey(connection, stateKey);
      const head = await readStateHead(connection.within(), stateKey);
      await assertConsistent(connection, head);
      return head;
    },
    write: writeState,
    lane: 'client',
  });
  return { epoch: head.epoch, revision: head.revision, body };
}

/** Selects name and canonical text of each document, for `copyOut`. */
const ALL_DOCUMENTS = `select name, value::text from loom_document
  where state_key = current_setting('loom.state_key') order by name`;

async function writeState(connection: Connection, head: StateHead, sink: Sink): Promise<void> {
  const written = { documents: 0, bytes: 0 };
  let separator = '{';
  for await (const lines of connection.copyOut(ALL_DOCUMENTS, sink)) {
    const parts: Buffer[] = [];
    for (const line of lines) {
      const [name, value] = splitFields(line);
      written.documents += 1;
      written.bytes += value.length;
      parts.push(Buffer.from(`${separator}${JSON.stringify(name.toString('utf8'))}:`), value);
      separator = ',\n';
    }
    await writeParts(sink, parts);
  }
  // The table has these totals, so a difference means that its index does not lead to every row.
  assertTotals(head, written);
  await sink.write(separator === '{' ? '{}\n' : '}\n');
}
