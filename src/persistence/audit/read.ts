// persistence/audit/ reads and verifies the audit trail. It imports domain, limits and, of persistence, activity/,
// connection/, read/ and state/. It never writes: commit/ and restore/ append entries.

import type { Readable } from 'node:stream';
import type { AuditQuery } from '../../domain/audit.ts';
import type { Admit, AuditPage } from '../../domain/store.ts';
import { limits } from '../../limits.ts';
import type { Database } from '../connection/database.ts';
import { openStream, type StreamContext, waitForMemory, writeParts } from '../read/stream.ts';
import { readStateHead, selectStateKey } from '../state/state-row.ts';

/**
 * Renders an entry as JSON text: `{"hash": "…", ` and its members. A tampered entry that is empty or no object becomes
 * the member `entry`.
 */
const LINE = `'{"hash": "' || encode(hash, 'hex') || '", ' ||
  case when jsonb_typeof(entry) = 'object' and entry <> '{}' then substr(entry::text, 2) else '"entry": ' || entry::text || '}' end`;

/** Maps each order to SQL, so that no text of a request becomes SQL. */
const directions = { asc: 'asc', desc: 'desc' };

/**
 * Selects the entries that changed a document, as SQL. `key` and `name` are the expressions of the state key and the
 * name. A restore or undo lists the names that it changed, up to a bound. Beyond that, its undo record has them, as
 * long as it is kept. Without one, the restore may have changed the document, so its entry is selected.
 */
function changesDocument(key: string, name: string): string {
  const lists = ['added', 'changed', 'removed'];
  const isListed = lists.map((list) => `coalesce(entry -> action -> 'document_names' -> '${list}' ? ${name}, false)`);
  const isComplete = lists.map((list) => `@.document_names.${list}.size() == @.documents.${list}`).join(' && ');
  return `case when action in ('restore', 'undo') then
      entry -> action -> 'replaced_state' is distinct from 'false'
      and (${isListed.join(' or ')}
           or (not coalesce(jsonb_path_exists(entry -> action, '$ ? (${isComplete})'), false)
               and not exists (
                 select from loom_snapshot s where s.state_key = ${key} and s.event_id = loom_audit.event_id
                    and not exists (select from loom_snapshot_document d
                                     where d.state_key = ${key} and d.revision = s.revision and d.name = ${name}))))
    else entry -> 'changes' @> jsonb_build_array(jsonb_build_object('name', ${name})) end`;
}

/**
 * Reads one page of entries, in the order of their seqs. A page ends before the entry that would make it longer than
 * `limits.maxPageBytes`, but has at least one. Reads a long page only after `admit` has returned.
 */
export async function readAudit(
  database: Database,
  stateKey: string,
  { after = 0, before = Number.MAX_SAFE_INTEGER, action, document, limit, order }: AuditQuery,
  admit: Admit = () => undefined,
): Promise<AuditPage> {
  const values = [stateKey, after, before, action ?? null, document ?? null, limit];
  let maxPageBytes: number = limits.maxPageBytes;
  // A restore can remove entries between the queries. Each attempt reads at most what was admitted.
  for (let maxTextBytes: number = limits.smallTextBytes; ; maxTextBytes = maxPageBytes) {
    const rows = await database.rows<PageRow>(pageQueries[order], [...values, maxPageBytes, maxTextBytes]);
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

const pageQueries = { asc: pageQuery('seq > page.seq', 'asc'), desc: pageQuery('seq < page.seq', 'desc') };

/** Returns the query of a page. It goes from entry to entry, because only their texts say where the page ends. */
function pageQuery(isNext: string, direction: string): string {
  const selected = `seq > $2 and seq < $3
    and ($4::text is null or action = $4)
    and ($5::text is null or ${changesDocument('$1', '$5::text')})`;
  const one = (condition: string) => `select seq, octet_length(${LINE})::bigint as bytes from loom_audit
    where state_key = $1 and ${selected} and ${condition} order by seq ${direction} limit 1`;
  return `with recursive page (seq, total, position) as (
      select first.seq, first.bytes, 1 from (${one('true')}) first
      union all
      select next.seq, page.total + next.bytes, page.position + 1 from page cross join lateral (${one(isNext)}) next
       where page.position <= $6 and (page.position = 1 or page.total <= $7)
    ), bounded as (
      select seq, total, position, position = 1 or (position <= $6 and total <= $7) as included from page)
    select seq, total, included,
           case when included and (select max(total) from bounded where included) <= $8
                then (select ${LINE} from loom_audit a where a.state_key = $1 and a.seq = bounded.seq) end as text
      from bounded order by position`;
}

/** Streams the selected entries of one transaction snapshot, one JSON text a line. */
export async function openAudit(
  database: Database,
  stateKey: string,
  { after = 0, before = Number.MAX_SAFE_INTEGER, action = '', document, order }: Omit<AuditQuery, 'limit'>,
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
                set_config('loom.action', $3, true), set_config('loom.document', $4, true)`,
        [String(after), String(before), action, document ?? ''],
      );
    },
    write: async (connection, _head, sink) => {
      for await (const lines of connection.copyOut(selectedEntries(order), sink)) {
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

function selectedEntries(order: 'asc' | 'desc'): string {
  return `select ${LINE} from loom_audit
    where state_key = current_setting('loom.state_key')
      and seq > current_setting('loom.after')::bigint and seq < current_setting('loom.before')::bigint
      and (current_setting('loom.action') = '' or action = current_setting('loom.action'))
      and (current_setting('loom.document') = ''
           or ${changesDocument("current_setting('loom.state_key')", "current_setting('loom.document')")})
    order by seq ${directions[order]}`;
}
