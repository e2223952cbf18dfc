import type { StoredDocument } from '../../domain/document.ts';
import type { Admit } from '../../domain/store.ts';
import { isLoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Database } from '../connection/database.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { assertUnfiltered, IS_FILTERED } from '../state/consistency.ts';
import { requireState } from '../state/state-row.ts';
import { waitForMemory } from './stream.ts';

/** Reads one document, see `createDocumentReader`. */
export type ReadDocument = (name: string, admit?: Admit) => Promise<StoredDocument | undefined>;

/** Holds what was found of one name: null if there is no such document. The text is null if it is too long. */
interface FoundDocument {
  text: string | null;
  bytes: number | null;
  revision: number | null;
  epoch: string;
  updatedAt: string | null;
  isFiltered: boolean;
}

interface Waiting {
  resolve(found: FoundDocument | undefined): void;
  reject(error: unknown): void;
}

/**
 * Creates a function that reads one document. It returns undefined when the document does not exist, and throws
 * `starting` when the state does not. It reads a long document only after `admit` has returned.
 *
 * While `limits.maxReadBatches` statements are in flight, the names that arrive are collected for the next one: with
 * many clients, a statement for each of them would be most of the work. Each read sees all that was committed before
 * it arrived, because its statement begins later.
 */
export function createDocumentReader(database: Database, stateKey: string): ReadDocument {
  const readTogether = createReadBatches((names) => findDocuments(database, stateKey, names));

  return async (name, admit = () => undefined) => {
    // The document can grow between the queries. Each attempt reads at most what was admitted.
    for (let maxBytes: number = limits.smallTextBytes; ; ) {
      const row =
        maxBytes === limits.smallTextBytes
          ? await readTogether(name)
          : await findDocument(database, { stateKey, name, maxBytes });
      const { text, bytes, revision, epoch, updatedAt, isFiltered } = requireState(row);
      assertUnfiltered(isFiltered);
      if (bytes === null || revision === null || updatedAt === null) return undefined;
      if (text !== null) return { text, revision, epoch, updatedAt };
      await waitForMemory(() => admit(bytes));
      maxBytes = bytes;
    }
  };
}

/** Collects names into batches. `find` returns what it found for each of several names, in their order. */
function createReadBatches(find: (names: string[]) => Promise<(FoundDocument | undefined)[]>) {
  /** Maps each name to those who wait for it, in the order of arrival. */
  const waiting = new Map<string, Waiting[]>();
  let running = 0;
  let isScheduled = false;

  async function run(batch: [name: string, Waiting[]][]): Promise<void> {
    try {
      const found = await find(batch.map(([name]) => name));
      for (const [index, [, readers]] of batch.entries()) for (const one of readers) one.resolve(found[index]);
    } catch (error) {
      // A row that cannot be read must not fail the reads of others.
      if (batch.length > 1 && isOneDocumentsFault(error)) for (const one of batch) await run([one]);
      else for (const [, readers] of batch) for (const one of readers) one.reject(error);
    }
  }

  function start(): void {
    isScheduled = false;
    while (waiting.size > 0 && running < limits.maxReadBatches) {
      const batch = [...waiting].slice(0, limits.maxBatchReads);
      for (const [name] of batch) waiting.delete(name);
      running += 1;
      void run(batch).finally(() => {
        running -= 1;
        start();
      });
    }
  }

  return (name: string): Promise<FoundDocument | undefined> =>
    new Promise((resolve, reject) => {
      const readers = waiting.get(name);
      if (readers === undefined) waiting.set(name, [{ resolve, reject }]);
      else readers.push({ resolve, reject });
      if (isScheduled || running >= limits.maxReadBatches) return;
      isScheduled = true;
      // Wait for the other requests of this turn of the event loop.
      setImmediate(start);
    });
}

/** Returns whether one row may be at fault, rather than the server or the schema. */
function isOneDocumentsFault(error: unknown): boolean {
  return !isLoomError(error) || error.code === 'internal';
}

async function findDocuments(
  database: Database,
  stateKey: string,
  names: string[],
): Promise<(FoundDocument | undefined)[]> {
  const [name, ...others] = names;
  if (name === undefined) return [];
  const maxBytes = limits.smallTextBytes;
  if (others.length === 0) return [await findDocument(database, { stateKey, name, maxBytes })];
  return await database.rows<FoundDocument>(READ_DOCUMENTS, [stateKey, names, maxBytes]);
}

function findDocument(
  database: Database,
  { stateKey, name, maxBytes }: { stateKey: string; name: string; maxBytes: number },
): Promise<FoundDocument | undefined> {
  return database.firstRow<FoundDocument>(READ_DOCUMENT, [stateKey, name, maxBytes]);
}

const COLUMNS = `
  case when d.bytes <= $3 then d.value::text end as text, d.bytes, d.revision, s.epoch,
  ${rfc3339('d.updated_at')} as "updatedAt", ${IS_FILTERED}`;

/** Selects one document by state key and name, with its text if it has at most as many bytes as the third value. */
export const READ_DOCUMENT = `
  select ${COLUMNS}
    from loom_state s left join loom_document d on d.state_key = s.state_key and d.name = $2
   where s.state_key = $1`;

/**
 * Selects as `READ_DOCUMENT`, a row for each name of an array. `limit` makes PostgreSQL look each name up by its key,
 * whatever it knows of the table.
 */
export const READ_DOCUMENTS = `
  select ${COLUMNS}
    from loom_state s
         cross join unnest($2::text[]) with ordinality as wanted (name, position)
         left join lateral (
           select bytes, value, revision, updated_at from loom_document
            where state_key = $1 and name = wanted.name limit 1) d on true
   where s.state_key = $1
   order by wanted.position`;
