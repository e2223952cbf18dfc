// persistence/audit/ reads and verifies the audit trail. It imports domain, limits and, of persistence, activity/,
// connection/, read/, schema/ and state/. It writes no entry, but rebuild.ts makes the index of the entries again.

import type { Readable } from 'node:stream';
import type { AuditQuery } from '../../domain/audit.ts';
import type { Admit, AuditPage } from '../../domain/store.ts';
import { limits } from '../../limits.ts';
import type { Database } from '../connection/database.ts';
import { openStream, type StreamContext, waitForMemory, writeParts } from '../read/stream.ts';
import { assertIndexUnfiltered } from '../state/consistency.ts';
import { readStateHead, selectStateKey } from '../state/state-row.ts';
import { type Parameters, selectByDocument, selectInOrder } from './selection.ts';

/**
 * Renders an entry as JSON text: `{"hash": "…", ` and its members. A tampered entry that is empty or no object becomes
 * the member `entry`.
 */
const LINE = `'{"hash": "' || encode(hash, 'hex') || '", ' ||
  case when jsonb_typeof(entry) = 'object' and entry <> '{}' then substr(entry::text, 2) else '"entry": ' || entry::text || '}' end`;

/**
 * Reads one page of entries, in the order of their seqs. A page ends before the entry that would make it longer than
 * `limits.maxPageBytes`, but has at least one. Reads a long page only after `admit` has returned.
 */
export async function readAudit(
  database: Database,
  stateKey: string,
  { after = 0, before = Number.MAX_SAFE_INTEGER, action, document, since, until, limit, order }: AuditQuery,
  admit: Admit = () => undefined,
): Promise<AuditPage> {
  const values = [stateKey, after, before, action ?? null, since ?? null, until ?? null, limit];
  const more = document === undefined ? [] : [document];
  const query = pageQuery(order, document !== undefined);
  if (document !== undefined) await assertIndexUnfiltered(database);
  let maxPageBytes: number = limits.maxPageBytes;
  // A restore can remove entries between the queries. Each attempt reads at most what was admitted.
  for (let maxTextBytes: number = limits.smallTextBytes; ; maxTextBytes = maxPageBytes) {
    const rows = await database.rows<PageRow>(query, [...values, maxPageBytes, maxTextBytes, ...more]);
    const entries = rows.flatMap(({ seq, text, included }) => (included && text !== null ? [{ seq, text }] : []));
    const found = rows.filter(({ included }) => included);
    if (entries.length === found.length) {
      const { head } = await readStateHead(database, stateKey);
      return { entries, next: rows.length > found.length ? (entries.at(-1)?.seq ?? null) : null, head };
    }
    maxPageBytes = found.at(-1)?.total ?? 0;
    const bytes = maxPageBytes;
    await waitForMemory(() => admit(bytes));
  }
}

interface PageRow {
  seq: number;
  /** Null if the page has more bytes than the last parameter allows. */
  text: string | null;
  /** Bytes of the page up to this entry. */
  total: number;
  /** False for the first entry after the page, which shows that there is one. */
  included: boolean;
}

/**
 * Returns the query of a page. It selects seqs first, then goes from entry to entry, because only their texts say where
 * the page ends.
 */
function pageQuery(order: 'asc' | 'desc', hasDocument: boolean): string {
  const limit = '$7::bigint + 1';
  const { ctes, query } = hasDocument
    ? { ctes: '', query: selectByDocument(PAGE_PARAMETERS, order, limit) }
    : selectInOrder(PAGE_PARAMETERS, { column: 'seq', order, limit });
  const entryAt = (seq: string) =>
    `select seq, octet_length(${LINE})::bigint as bytes from loom_audit where state_key = $1 and seq = ${seq}`;
  return `with recursive ${ctes === '' ? '' : `${ctes},`} selected as materialized (
      select array_agg(seq order by seq ${order}) as seqs from (${query}) found
    ), page (seq, total, position) as (
      select entry.seq, entry.bytes, 1 from selected cross join lateral (${entryAt('seqs[1]')}) entry
      union all
      select entry.seq, page.total + entry.bytes, page.position + 1
        from page cross join selected cross join lateral (${entryAt('seqs[page.position + 1]')}) entry
       where page.position <= $7 and (page.position = 1 or page.total <= $8)
    ), bounded as (
      select seq, total, position, position = 1 or (position <= $7 and total <= $8) as included from page)
    select seq, total, included,
           case when included and (select max(total) from bounded where included) <= $9
                then (select ${LINE} from loom_audit a where a.state_key = $1 and a.seq = bounded.seq) end as text
      from bounded order by position`;
}

const PAGE_PARAMETERS: Parameters = {
  key: '$1',
  after: '$2',
  before: '$3',
  action: '$4::text',
  since: '$5::timestamptz',
  until: '$6::timestamptz',
  document: '$10::text',
};

/** Streams the selected entries of one transaction snapshot, one JSON text a line. */
export async function openAudit(
  database: Database,
  stateKey: string,
  { after = 0, before = Number.MAX_SAFE_INTEGER, action, document, since, until, order }: Omit<AuditQuery, 'limit'>,
  { memory, signal }: StreamContext,
): Promise<Readable> {
  const { body } = await openStream(database, {
    memory,
    signal,
    prepare: async (connection) => {
      await selectStateKey(connection, stateKey);
      // Without the state, or with hidden entries, the stream would look whole.
      await readStateHead(connection.within(), stateKey);
      await connection.execute(
        `select set_config('loom.after', $1, true), set_config('loom.before', $2, true),
                set_config('loom.action', $3, true), set_config('loom.document', $4, true),
                set_config('loom.since', $5, true), set_config('loom.until', $6, true)`,
        [String(after), String(before), action ?? '', document ?? '', since ?? '', until ?? ''],
      );
    },
    write: async (connection, _head, sink) => {
      for await (const lines of connection.copyOut(selectedEntries(order, document !== undefined), sink)) {
        await writeParts(
          sink,
          lines.flatMap((line) => [line, NEWLINE]),
        );
      }
    },
    lane: 'client',
  });
  return body;
}

const NEWLINE = Buffer.from('\n');

function selectedEntries(order: 'asc' | 'desc', hasDocument: boolean): string {
  if (!hasDocument) {
    const { ctes, query } = selectInOrder(STREAM_PARAMETERS, { column: LINE, order, limit: 'all' });
    return `with recursive ${ctes} ${query}`;
  }
  // "offset 0" makes PostgreSQL read entry by entry in the order of the seqs. It would otherwise sort the texts.
  return `with selected as (${selectByDocument(STREAM_PARAMETERS, order, 'all')})
    select line from selected cross join lateral (
        select ${LINE} as line from loom_audit a
         where a.state_key = ${STREAM_PARAMETERS.key} and a.seq = selected.seq offset 0) entry
     order by selected.seq ${order}`;
}

/** Reads the parameters from settings, because a COPY takes none. */
const STREAM_PARAMETERS: Parameters = {
  key: "current_setting('loom.state_key')",
  after: "current_setting('loom.after')::bigint",
  before: "current_setting('loom.before')::bigint",
  action: "nullif(current_setting('loom.action'), '')",
  document: "current_setting('loom.document')",
  since: "nullif(current_setting('loom.since'), '')::timestamptz",
  until: "nullif(current_setting('loom.until'), '')::timestamptz",
};
