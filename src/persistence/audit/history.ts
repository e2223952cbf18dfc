import type { DocumentHistory, HistoryQuery, RecordedChange } from '../../domain/history.ts';
import { limits } from '../../limits.ts';
import type { Database } from '../connection/database.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { assertIndexUnfiltered } from '../state/consistency.ts';
import { readStateHead } from '../state/state-row.ts';
import { entryOf, isWithin, mayHaveChanged } from './selection.ts';

/**
 * Reads one page of the changes of a document, newest first. Returns undefined if the audit trail has no change of it.
 * A page ends before the entries of its changes take more than `limits.maxHistoryEntryBytes`, but has at least one.
 */
export async function readHistory(
  database: Database,
  stateKey: string,
  name: string,
  query: HistoryQuery,
): Promise<DocumentHistory | undefined> {
  const { before = Number.MAX_SAFE_INTEGER, since = null, until = null, limit } = query;
  await readStateHead(database, stateKey);
  await assertIndexUnfiltered(database);
  const rows = await database.rows<HistoryRow>(HISTORY, [
    stateKey,
    name,
    before,
    since,
    until,
    limit,
    limits.maxHistoryEntryBytes,
    limits.maxHistoryTextCharacters,
  ]);
  if (rows.length === 0 && !(await hasHistory(database, stateKey, name))) return undefined;
  const history = rows.map(({ found: _found, actor_name: actorName, ...change }): RecordedChange => {
    return actorName === null ? change : { ...change, actor_name: actorName };
  });
  const hasMore = (rows[0]?.found ?? 0) > rows.length;
  return { name, history, next: hasMore ? (history.at(-1)?.seq ?? null) : null };
}

type HistoryRow = Omit<RecordedChange, 'actor_name'> & {
  actor_name: string | null;
  /** Number of changes that were found, at most one more than the limit. */
  found: number;
};

async function hasHistory(database: Database, stateKey: string, name: string): Promise<boolean> {
  const row = await database.firstRow(`select from (${selectChanges('1')}) found`, [
    stateKey,
    name,
    Number.MAX_SAFE_INTEGER,
    null,
    null,
  ]);
  return row !== undefined;
}

/**
 * Returns a query of the newest changes of a document in the index. A row with the name '' is a restore or undo by a
 * node of an earlier version, which recorded no changes. It counts if it may have changed the document.
 */
function selectChanges(limit: string): string {
  const isInTime = isWithin({ since: '$4::timestamptz', until: '$5::timestamptz' });
  const mayCount = `${isInTime} and ${mayHaveChanged('$1', '$2')}`;
  const ordered = `order by seq desc limit ${limit}`;
  return `(select c.seq, c.revision, c.op, c.sha256 from loom_change c cross join lateral (${entryOf('$1', isInTime)}) entry
            where c.state_key = $1 and c.name = $2 and c.seq < $3 ${ordered})
          union all
          (select c.seq, c.revision, c.op, c.sha256
             from loom_change c cross join lateral (${entryOf('$1', mayCount)}) entry
            where c.state_key = $1 and c.name = '' and c.seq < $3
              and not exists (select from loom_change n where n.state_key = $1 and n.name = $2 and n.seq = c.seq)
            ${ordered})
          ${ordered}`;
}

/** Reads a text of an entry. In a trail of another program, it can have another type and any length. */
function textOf(member: string): string {
  return `left(opened.entry ->> '${member}', $8)`;
}

/**
 * Selects before it reads members of entries, because PostgreSQL decompresses a whole entry for a member. The
 * concatenation with an empty object returns the decompressed entry, so that this happens only once for each.
 */
const HISTORY = `with found as materialized (
    ${selectChanges('$6::bigint + 1')}
  ), sized as (
    select seq, found.revision, op, sha256, event_id, recorded_at, action, entry,
           row_number() over newest as position,
           sum(pg_column_size(entry)) over newest as total
      from found join loom_audit using (seq) where state_key = $1
    window newest as (order by seq desc)
  )
  select seq, case when op = 'unknown' then opened.entry -> 'revision' else to_jsonb(revision) end as revision,
         event_id, ${rfc3339('recorded_at')} as recorded_at, left(action, $8) as action,
         ${textOf('actor')} as actor, ${textOf('actor_name')} as actor_name, op, encode(sha256, 'hex') as sha256,
         (select count(*) from found) as found
    from sized cross join lateral (select sized.entry || '{}' as entry offset 0) opened
   where position = 1 or (position <= $6 and total <= $7)
   order by seq desc`;
