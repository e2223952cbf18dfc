/** Names what finds a tampering: a command of docs/threat-model.md, or the refusal of PostgreSQL. */
export type Finder = 'verify' | 'sql' | 'file' | 'ready' | 'start' | 'refused';

export interface Threat {
  /** As in the table of docs/threat-model.md. */
  what: string;
  /** `superuser` runs it without triggers; `serve` as the serving role of docs/roles.sql. */
  by: 'superuser' | 'serve';
  sql: string;
  /** All that find it. Empty: nothing does, until a later backup is compared with one that is stored elsewhere. */
  found: Finder[];
}

/** Recomputes all hashes from the entry `seq` on, and the head in the state row. */
const relink = (seq: number): string => `
  with recursive linked as (
    select seq, loom_chain_hash(coalesce((select hash from loom_audit where seq = ${seq} - 1), decode(repeat('00', 32), 'hex')), entry) as hash
      from loom_audit where seq = ${seq}
    union all
    select a.seq, loom_chain_hash(l.hash, a.entry) from linked l join loom_audit a on a.seq = l.seq + 1
  )
  update loom_audit a set hash = l.hash from linked l where a.seq = l.seq;
  update loom_state set audit_hash = (select hash from loom_audit where seq = loom_state.audit_seq)`;

/** Lets the entry `seq` put another value into its document, which must be the last change of it. */
const revalue = (seq: number): string => `
  with new as (select '{"forged": 1}'::jsonb as value)
  update loom_audit set entry = jsonb_set(entry, '{changes,0}', entry #> '{changes,0}' || jsonb_build_object(
           'value', value, 'sha256', encode(loom_value_sha256(value), 'hex'))) from new where seq = ${seq};
  update loom_change c set sha256 = loom_value_sha256('{"forged": 1}') where seq = ${seq};
  update loom_document set value = '{"forged": 1}' where name = (select name from loom_change where seq = ${seq});
  update loom_state set bytes = (select sum(bytes) from loom_document);
  ${relink(seq)}`;

/** Removes the last entries with all that they did, as if they had never been made. */
const rewind = (to: number): string => `
  delete from loom_document d where revision > (select (entry ->> 'revision')::bigint from loom_audit where seq = ${to});
  insert into loom_document (state_key, name, value, revision)
    select 'default', c.name, change -> 'value', c.revision
      from (select distinct on (name) * from loom_change where seq <= ${to} order by name, seq desc) c
      join loom_audit a using (seq) cross join lateral jsonb_array_elements(a.entry -> 'changes') e (change)
     where change ->> 'name' = c.name and c.op = 'put' and c.name not in (select name from loom_document);
  delete from loom_audit where seq > ${to};
  delete from loom_change where seq > ${to};
  update loom_state set audit_seq = ${to}, audit_hash = (select hash from loom_audit where seq = ${to}),
    revision = (select (entry ->> 'revision')::bigint from loom_audit where seq = ${to}),
    documents = (select count(*) from loom_document), bytes = (select sum(bytes) from loom_document)`;

const rename = (seq: number): string =>
  `update loom_audit set entry = entry || '{"request_id": "forged"}' where seq = ${seq}`;

const COMMIT = `select loom_commit('default', jsonb_build_array(jsonb_build_object(
    'event_id', gen_random_uuid(), 'action', 'document.put', 'actor', 'client', 'request_id', 'edit',
    'changes', '[{"op": "put", "name": "after an edit", "value": 1}]'::jsonb)),
  '{"max_document_bytes": 1000, "max_deletes": 1, "lock_timeout_ms": 5000}')`;

/** Answers the stored hash, whatever the entry is. */
const redefineHash = `create or replace function loom_chain_hash(previous_hash bytea, entry jsonb) returns bytea
  language sql immutable strict as 'select hash from loom_audit a where a.seq = ($2 ->> ''seq'')::bigint'`;

const OPEN = `select set_config('loom.audit_rewrite', 'restore', true)`;

/** Makes a schema that the sessions of the database search first. */
const shadow = (
  statement: string,
): string => `create schema shadow; grant usage on schema shadow to public; ${statement};
  do $$ begin execute format('alter database %I set search_path = shadow, pg_catalog, public', current_database()); end $$`;

const everywhere: Finder[] = ['verify', 'sql', 'file'];
const inside: Finder[] = ['verify', 'sql'];

/**
 * Lists tamperings with the history of test/persistence/audit/threats.test.ts. The earlier backup has its entries up to
 * 10, and entry 12 is the last change of a document.
 */
const listed: (Omit<Threat, 'by'> & Partial<Threat>)[] = [
  { what: 'a document is edited', sql: `update loom_document set value = '1' where name = 'a'`, found: everywhere },
  {
    what: 'a document is inserted',
    sql: `insert into loom_document (state_key, name, value, revision) values ('default', 'new', '1', 2)`,
    found: everywhere,
  },
  { what: 'a document is removed', sql: `delete from loom_document where name = 'b'`, found: everywhere },
  { what: 'a document is renamed', sql: `update loom_document set name = 'z' where name = 'a'`, found: everywhere },
  {
    what: 'the derived digest of a document becomes a plain column, and keeps the old digest',
    sql: `alter table loom_document alter column sha256 drop expression; update loom_document set value = '1' where name = 'a'`,
    found: everywhere,
  },
  {
    what: 'the revision of a document is edited',
    sql: `update loom_document set revision = revision - 1 where name = 'a'`,
    found: inside,
  },
  { what: 'the revision of the state is edited', sql: 'update loom_state set revision = revision + 3', found: inside },
  {
    what: 'the revision of the state is edited, and a commit follows',
    sql: `update loom_state set revision = revision + 3; ${COMMIT}`,
    found: inside,
  },
  {
    what: 'the counter of documents is edited',
    sql: 'update loom_state set documents = documents + 1',
    found: everywhere,
  },
  { what: 'the counter of bytes is edited', sql: 'update loom_state set bytes = bytes + 1', found: everywhere },
  { what: 'the epoch is edited', sql: `update loom_state set epoch = 'another'`, found: inside },
  {
    what: 'the epoch is edited, and a commit follows',
    sql: `update loom_state set epoch = 'another'; ${COMMIT}`,
    found: inside,
  },
  {
    what: 'the schema version is lowered',
    sql: `update loom_meta set value = '3' where key = 'schema_version'`,
    found: ['verify', 'ready'],
  },
  {
    what: 'the schema version is raised, so that a verification would not know the functions',
    sql: `update loom_meta set value = '99' where key = 'schema_version'`,
    found: ['verify'],
  },
  {
    what: 'the ledger of migrations is edited',
    sql: `update loom_meta set value = jsonb_set(value, '{0,sha256}', '"x"') where key = 'migrations'`,
    found: ['start'],
  },
  {
    what: 'the instance id is replaced',
    sql: `update loom_meta set value = to_jsonb(gen_random_uuid()) where key = 'instance_id'`,
    found: ['file'],
  },
  { what: 'an undo record is edited', sql: `update loom_snapshot_document set value = '1'`, found: inside },
  {
    what: 'an undo record is removed',
    sql: 'delete from loom_snapshot; delete from loom_snapshot_document',
    found: inside,
  },
  {
    what: 'a column of an entry is edited',
    sql: `update loom_audit set action = 'state.put' where seq = 3`,
    found: inside,
  },
  {
    what: 'the index of changes is edited',
    sql: 'update loom_change set revision = revision + 1 where seq = 3',
    found: inside,
  },
  { what: 'an entry is edited', sql: rename(3), found: everywhere },
  {
    what: 'an entry is removed',
    sql: 'delete from loom_audit where seq = 3; delete from loom_change where seq = 3',
    found: everywhere,
  },
  { what: 'the last entries are removed', sql: 'delete from loom_audit where seq > 10', found: everywhere },
  {
    what: 'an entry of before the earlier backup is edited, and all after it chained again',
    sql: `${rename(3)}; ${relink(3)}`,
    found: ['file'],
  },
  {
    what: 'an entry gets another value, chained again, with document, index and counters to match',
    sql: revalue(12),
    found: [],
  },
  {
    what: 'the last entries are removed with all that they did, to before the earlier backup',
    sql: rewind(9),
    found: ['file'],
  },
  { what: 'the last entries are removed with all that they did, to the earlier backup', sql: rewind(10), found: [] },
  {
    what: 'loom_chain_hash is redefined, and an entry edited',
    sql: `${redefineHash}; ${rename(3)}`,
    found: everywhere,
  },
  {
    what: 'the schema version is raised, with a row in the ledger, loom_chain_hash redefined, and an entry edited',
    sql: `update loom_meta set value = '99' where key = 'schema_version';
          update loom_meta set value = value || '{"version": 99}' where key = 'migrations';
          ${redefineHash}; ${rename(3)}`,
    found: everywhere,
  },
  {
    what: 'loom_value_sha256 is redefined, and a document edited',
    sql: `create or replace function loom_value_sha256(value jsonb) returns bytea language plpgsql immutable strict as
            'begin return sha256(convert_to(replace(value::text, ''forged'', ''n''), ''UTF8'')); end';
          update loom_document set value = '{"forged": 1}' where name = 'a'`,
    found: everywhere,
  },
  {
    what: 'the function of the guard is redefined',
    sql: `create or replace function loom_audit_refuse_rewrite() returns trigger language plpgsql as 'begin return null; end'`,
    found: ['verify'],
  },
  {
    what: 'the trigger of the guard is disabled',
    sql: 'alter table loom_audit disable trigger loom_audit_append_only',
    found: ['verify'],
  },
  {
    what: 'a search path shadows convert_to, which reads an edited entry as before',
    sql: `${rename(3)}; ${shadow(`create function shadow.convert_to(text, name) returns bytea language sql immutable as
            'select pg_catalog.convert_to(replace($1, ''"forged"'', ''"test"''), $2)'`)}`,
    found: everywhere,
  },
  {
    what: 'a search path shadows the table of entries with a view that shows an edited entry as before',
    sql: `${shadow(`create view shadow.loom_audit as select state_key, seq, event_id, idempotency_key, recorded_at, action,
            case when seq = 3 then entry || '{"request_id": "test"}' else entry end as entry, hash from public.loom_audit`)}; ${rename(3)}`,
    found: inside,
  },
  {
    what: 'the guard is opened with set_config, and an entry edited',
    by: 'serve',
    sql: `${OPEN}; ${rename(3)}`,
    found: ['refused'],
  },
  {
    what: 'the guard is opened with set_config, and entries deleted',
    by: 'serve',
    sql: `${OPEN}; delete from loom_audit`,
    found: ['refused'],
  },
  {
    what: 'entries are removed with loom_remove_entries, without a restore',
    by: 'serve',
    sql: `select loom_remove_entries('default', 3)`,
    found: ['refused'],
  },
  {
    what: 'a commit is made with loom_commit, and names any actor',
    by: 'serve',
    sql: COMMIT,
    found: [],
  },
  {
    what: 'a function is redefined',
    by: 'serve',
    sql: `create or replace function loom_chain_hash(previous_hash bytea, entry jsonb) returns bytea language sql as 'select $1'`,
    found: ['refused'],
  },
];

export const threats: Threat[] = listed.map((threat) => ({ by: 'superuser', ...threat }));
