import pg from 'pg';
import { applyMigrations } from './migrations.ts';

/** The size of a state. */
export interface StateSize {
  documents: number;
  /** Size of each document. */
  documentBytes: number;
  /** At least one for each document: the first entries put the documents, and all others patch them in turn. */
  entries: number;
}

/** Entries of one insert. Sorting them fits in `work_mem`. */
const BATCH = 50_000;

export function filledName(index: number): string {
  return `document-${index}`;
}

/**
 * Fills a new database with a state as LOOM's commits would leave it, at a tenth of their cost: entries with a valid
 * chain, the index of changes, documents that equal what the entries make, and counters. Each patch sets one member of
 * a document. Resolves after vacuum and analyze.
 */
export async function fillState(url: string, { documents, documentBytes, entries }: StateSize): Promise<void> {
  await applyMigrations(url);
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    // The index of changes is written in one statement, after all entries.
    await client.query(`set work_mem = '128MB'; set loom.changes = 'kept'`);
    await client.query(`insert into loom_state (state_key, epoch) values ('default', 'filled')`);
    await client.query(fillFunctions(documents, documentBytes));
    for (let after = 0; after < entries; after += BATCH) {
      await client.query(insertEntries(after, Math.min(after + BATCH, entries), documents));
    }
    await client.query(insertDocuments(documents, entries));
    await client.query(insertChanges);
    await client.query(setCounters);
    await client.query('drop function filled_value(bigint, bigint); drop function filled_name(bigint)');
    await client.query('vacuum analyze');
  } finally {
    await client.end();
  }
}

/** The value of a document after the entry `seq` of a put or patch; `seq` is null after its put. */
function fillFunctions(documents: number, documentBytes: number): string {
  const textBytes = Math.max(32, documentBytes - 64);
  return `
create function filled_name(n bigint) returns text language sql immutable as $$ select 'document-' || n $$;
create function filled_value(n bigint, seq bigint) returns jsonb language sql immutable as $$
  select jsonb_build_object('text', left(repeat(md5(n::text), ${Math.ceil(textBytes / 32)}), ${textBytes}), 'count', ${documents})
         || case when seq is null then '{}'::jsonb else jsonb_build_object('seen', seq) end
$$`;
}

function insertEntries(after: number, until: number, documents: number): string {
  return `
with e as (
  select seq, (seq - 1) % ${documents} as n, seq > ${documents} as is_patch, ('019c1a00-0000-7000-8000-' || lpad(to_hex(seq), 12, '0'))::uuid as event_id,
         timestamptz '2026-01-01Z' + seq * interval '1 second' as at
    from generate_series(${after + 1}::bigint, ${until}) seq
), built as (
  select seq, event_id, at, is_patch, jsonb_build_object(
           'seq', seq, 'event_id', event_id, 'recorded_at', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
           'action', case when is_patch then 'document.patch' else 'document.put' end, 'actor', 'client',
           'request_id', 'filled-' || seq, 'revision', seq, 'epoch', 'filled',
           'changes', jsonb_build_array(case
             when is_patch then jsonb_build_object('op', 'merge', 'name', filled_name(n), 'value', jsonb_build_object('seen', seq),
                                  'sha256', encode(loom_value_sha256(filled_value(n, seq)), 'hex'))
             else jsonb_build_object('op', 'put', 'name', filled_name(n), 'value', filled_value(n, null), 'created', true,
                    'sha256', encode(loom_value_sha256(filled_value(n, null)), 'hex')) end)) as entry
    from e
), linked as (
  select *, loom_chain_after((select audit_hash from loom_state where state_key = 'default'), entry) over (order by seq) as hash from built
), inserted as (
  insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
  select 'default', seq, event_id, at, case when is_patch then 'document.patch' else 'document.put' end, entry, hash
    from linked order by seq
  returning seq, hash
)
update loom_state set audit_seq = ${until}, revision = ${until},
       audit_hash = (select hash from inserted where seq = ${until}) where state_key = 'default'`;
}

/** The last entry of a document is its put, or its last patch. */
function insertDocuments(documents: number, entries: number): string {
  return `
insert into loom_document (state_key, name, value, revision)
select 'default', filled_name(n), filled_value(n, nullif(last, n + 1)), last
  from (select n, n + 1 + (${entries} - n - 1) / ${documents} * ${documents} as last
          from generate_series(0::bigint, ${documents - 1}) n) d
 order by filled_name(n) collate "C"`;
}

const insertChanges = `
insert into loom_change (state_key, name, seq, revision, op, sha256)
select state_key, entry #>> '{changes,0,name}', seq, seq, entry #>> '{changes,0,op}', decode(entry #>> '{changes,0,sha256}', 'hex')
  from loom_audit where state_key = 'default' order by (entry #>> '{changes,0,name}') collate "C", seq`;

const setCounters = `
update loom_state s set (documents, bytes) =
  (select count(*), coalesce(sum(d.bytes), 0) from loom_document d where d.state_key = s.state_key) where state_key = 'default'`;
