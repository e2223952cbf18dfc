// persistence/read/ reads one document, a page of documents, or the whole state as a stream. It imports domain, errors,
// limits and, of persistence, connection/ and state/. It never writes.

import type { StoredDocument } from '../../domain/document.ts';
import type { MemoryBudget } from '../../domain/memory.ts';
import type { Admit, DocumentPage, DocumentQuery, StateStream } from '../../domain/store.ts';
import { limits } from '../../limits.ts';
import type { Connection } from '../connection/connection.ts';
import { splitFields } from '../connection/copy.ts';
import type { Database } from '../connection/database.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { readStateHead, requireState, selectStateKey } from '../state/state-row.ts';
import { openStream, type Sink, waitForMemory, writeParts } from './stream.ts';

/** Reads one document. Returns undefined when it does not exist. Reads a long one only after `admit` has returned. */
export async function readDocument(
  database: Database,
  stateKey: string,
  name: string,
  admit: Admit = () => undefined,
): Promise<StoredDocument | undefined> {
  // The document can grow between the queries. Each attempt reads at most what was admitted.
  for (let maxBytes: number = limits.smallTextBytes; ; ) {
    const row = await readDocumentUpTo(database, stateKey, name, maxBytes);
    if (row === undefined) return undefined;
    const { text, bytes, ...rest } = row;
    if (text !== null) return { text, ...rest };
    await waitForMemory(() => admit(bytes));
    maxBytes = bytes;
  }
}

type LimitedDocument = Omit<StoredDocument, 'text'> & { text: string | null; bytes: number };

function readDocumentUpTo(database: Database, stateKey: string, name: string, maxBytes: number) {
  return database.firstRow<LimitedDocument>(
    `select case when d.bytes <= $3 then d.value::text end as text, d.bytes, d.revision, s.epoch, ${rfc3339('d.updated_at')} as "updatedAt"
       from loom_document d join loom_state s using (state_key)
      where d.state_key = $1 and d.name = $2`,
    [stateKey, name, maxBytes],
  );
}

/** Reads one page of the documents, in byte order of their names. */
export async function listDocuments(database: Database, stateKey: string, query: DocumentQuery): Promise<DocumentPage> {
  const row = await database.firstRow<{ epoch: string; revision: number; documents: DocumentPage['documents'] }>(
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
  const { epoch, revision, documents: found } = requireState(row);
  const documents = found.slice(0, query.limit);
  const next = found.length > query.limit ? (documents.at(-1)?.name ?? null) : null;
  return { documents, next, epoch, revision };
}

/** Streams all documents of one transaction snapshot as the text of one JSON object. */
export async function openState(database: Database, stateKey: string, memory?: MemoryBudget): Promise<StateStream> {
  const { head, body } = await openStream(database, {
    memory,
    prepare: async (connection) => {
      await selectStateKey(connection, stateKey);
      return readStateHead(connection.within(), stateKey);
    },
    write: (connection, _head, sink) => writeState(connection, sink),
  });
  return { epoch: head.epoch, revision: head.revision, body };
}

/** Selects name and canonical text of each document, for `copyOut`. */
export const ALL_DOCUMENTS = `select name, value::text from loom_document
  where state_key = current_setting('loom.state_key') order by name`;

async function writeState(connection: Connection, sink: Sink): Promise<void> {
  let separator = '{';
  for await (const lines of connection.copyOut(ALL_DOCUMENTS, sink)) {
    const parts: Buffer[] = [];
    for (const line of lines) {
      const [name, value] = splitFields(line);
      parts.push(Buffer.from(`${separator}${JSON.stringify(name.toString('utf8'))}:`), value);
      separator = ',\n';
    }
    await writeParts(sink, parts);
  }
  await sink.write(separator === '{' ? '{}\n' : '}\n');
}
