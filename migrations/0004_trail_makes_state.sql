-- loom: compatible
-- Why: the trail alone makes the state. Each change in an entry has the digest of its result, and loom_change is an index of all changes.
-- Locks: loom_audit against writers only, for one pass over its rows (45 ms were measured for 200,000 entries), after the index of the
-- changes so far has been made without a lock. A restore in its last step delays it, and the commits after it.

-- One row for each change of a document, derived from the entries alone (loom_entry_changes). A row with the name '' stands for a restore
-- or undo by a node of an earlier schema version, which may have changed any document without saying so.
create table loom_change (
  state_key text collate "C" not null,
  name text collate "C" not null,
  seq bigint not null,
  revision bigint not null,
  op text not null check (op in ('put', 'merge', 'delete', 'unknown')),
  -- Digest of the document afterwards. Null for a deletion, and for a merge in an entry of an earlier schema version.
  sha256 bytea,
  primary key (state_key, name, seq)
);

-- As before. Names in the catalog instead of a search_path of its own take half the time, which each batch of commits spends. It runs as
-- its owner, so it names no type, function or operator without its schema: a caller's search_path could lead to another.
create or replace function loom_current_lineage() returns text language plpgsql security definer as $$
declare
  v_system pg_catalog.text := '-';
  v_database pg_catalog.oid;
begin
  begin
    v_system := (pg_catalog.pg_control_system()).system_identifier;
  exception when others then
    -- Some managed servers refuse this. The timeline alone still shows a promotion.
  end;
  select oid into v_database from pg_catalog.pg_database where datname operator(pg_catalog.=) pg_catalog.current_database();
  return pg_catalog.concat(v_system, '.', pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn()), 8), '.', v_database);
exception when others then
  -- No fault of this look-up may stop commits.
  return null;
end
$$;

-- The changes of documents in an entry, as rows of loom_change. If a name occurs twice, the last change counts. Elements of another
-- form than LOOM's are skipped: a backup made by hand may have them. (PostgreSQL takes ten times as long to match '{64}'.) With the offset,
-- PostgreSQL decompresses a large entry once, and not for each of its changes.
create function loom_entry_changes(p_entry jsonb) returns table (name text, revision bigint, op text, sha256 bytea)
language sql immutable parallel safe as $$
  select distinct on (1) change ->> 'name',
         case when jsonb_typeof(change -> 'revision') = 'number' and (change ->> 'revision') collate "C" ~ '^[0-9]{1,16}$'
                then (change ->> 'revision')::bigint
              else e.revision end,
         change ->> 'op',
         case when change ->> 'op' = 'delete' then null
              when length(change ->> 'sha256') = 64 and (change ->> 'sha256') collate "C" !~ '[^0-9a-f]'
                then decode(change ->> 'sha256', 'hex')
              when change ->> 'op' = 'put' then loom_value_sha256(change -> 'value') end
    from (select case when jsonb_typeof(p_entry -> 'revision') = 'number' and (p_entry ->> 'revision') collate "C" ~ '^[0-9]{1,16}$'
                      then (p_entry ->> 'revision')::bigint else 0 end as revision,
                 case when jsonb_typeof(p_entry -> 'changes') = 'array' then p_entry -> 'changes' else '[]' end as changes
          offset 0) e
   cross join lateral jsonb_array_elements(e.changes) with ordinality as element (change, place)
   where jsonb_typeof(change -> 'name') = 'string' and octet_length(change ->> 'name') between 1 and 512
     and change ->> 'op' in ('put', 'merge', 'delete')
   order by 1, place desc
$$;

-- Whether an entry is of a restore or undo that recorded its changes of documents in the entries that follow it, if any.
create function loom_entry_is_told(p_entry jsonb) returns boolean language sql immutable parallel safe as $$
  select coalesce(p_entry ->> 'action', '') not in ('restore', 'undo')
    or coalesce(jsonb_typeof(p_entry -> (p_entry ->> 'action') -> 'recorded_changes'), '') = 'number'
$$;

-- Rows of loom_change for the entries of a state after p_after. The caller has made sure that there are none yet.
create function loom_index_changes(p_state_key text, p_after bigint) returns void language sql as $$
  insert into loom_change (state_key, name, seq, revision, op, sha256)
  select a.state_key, c.name, a.seq, c.revision, c.op, c.sha256
    from loom_audit a cross join lateral loom_entry_changes(a.entry) c
   where a.state_key = p_state_key and a.seq > p_after
   union all
  select a.state_key, '', a.seq, 0, 'unknown', null
    from loom_audit a
   where a.state_key = p_state_key and a.seq > p_after and a.action in ('restore', 'undo') and not loom_entry_is_told(a.entry)
$$;

-- Makes the index of a state again from its entries. The caller has locked the state's row.
create function loom_rebuild_changes(p_state_key text) returns void language sql as $$
  delete from loom_change where state_key = p_state_key;
  select loom_index_changes(p_state_key, 0)
$$;

-- One step of loom_fold. Most patches have neither null nor an object inside. PostgreSQL merges them itself, much faster.
create function loom_fold_step(p_state jsonb, p_op text, p_value jsonb) returns jsonb language plpgsql immutable parallel safe as $$
begin
  if p_op = 'put' or (p_op = 'merge' and jsonb_typeof(p_value) <> 'object') then
    return p_value;
  elsif p_op <> 'merge' then
    return null;
  elsif not p_value @? 'strict $.* ? (@ == null || @.type() == "object")' then
    return case when jsonb_typeof(p_state) = 'object' then p_state || p_value else p_value end;
  end if;
  return loom_merge(p_state, p_value, 'infinity');
end
$$;

-- The document that successive changes make, from their op and value. Null: the document does not exist.
create aggregate loom_fold(p_op text, p_value jsonb) (sfunc = loom_fold_step, stype = jsonb, parallel = safe);

-- The merges whose entry claims another digest than that of the result of all changes since the last put or deletion: the first one after
-- each of these, because the later ones build on it. After a merge without a digest, or one of the untold restores p_untold, the document
-- is unknown until the next put or deletion. Before all, it does not exist.
--
-- A run is a change that does not depend on the document before, and the merges after it. Only the values of known runs with merges are
-- read. p_derived: take the changes from the entries instead of the index. The names are divided into p_parts, a power of two, for
-- parallel workers. A plpgsql function is never inlined: the window functions inside would not run in a worker.
create function loom_wrong_merges(p_state_key text, p_untold bigint[], p_derived boolean, p_part int, p_parts int)
returns table (name text, seq bigint) language plpgsql stable parallel safe cost 1000000 rows 100 as $$
#variable_conflict use_column
begin
  return query
  with changes as (
    select c.name, c.seq, c.op, c.sha256 from loom_change c where c.state_key = p_state_key and c.name <> '' and not p_derived
    union all
    select c.name, a.seq, c.op, c.sha256
      from loom_audit a cross join lateral loom_entry_changes(a.entry) c where a.state_key = p_state_key and p_derived
  ), part as materialized (
    select name, seq, op, sha256, op = 'merge' and sha256 is not null as is_told, width_bucket(seq, p_untold) as era
      from changes where hashtext(name) & (p_parts - 1) = p_part
  ), runs as (
    select *, count(*) filter (where not is_told) over (partition by name, era order by seq) as run
      from part where name in (select p.name from part p where p.is_told)
  ), needed as materialized (
    select * from (
      select *, bool_or(is_told) over whole as has_merges,
             case when run = 0 then era = 0 else first_value(op) over (whole order by seq) <> 'merge' end as is_known
        from runs window whole as (partition by name, era, run)) r
     where has_merges and is_known
  )
  select name, min(seq)
    from (select n.*, loom_fold(op, value) over (partition by name, era, run order by seq) as document
            from needed n
            join (select a.seq, change ->> 'name' as name, change -> 'value' as value
                    from loom_audit a cross join lateral jsonb_array_elements(a.entry -> 'changes') e (change)
                   where a.state_key = p_state_key and a.seq in (select n.seq from needed n)) v using (name, seq)) folded
   where is_told and sha256 is distinct from loom_value_sha256(document)
   group by name, era, run;
end
$$;

-- Indexes an entry that another function than loom_commit of this version has written: a call of the earlier one that began before the
-- migration, a restore by a node of an earlier schema version, or someone by SQL.
create function loom_audit_note_changes() returns trigger language plpgsql as $$
begin
  insert into loom_change (state_key, name, seq, revision, op, sha256)
  select new.state_key, c.name, new.seq, c.revision, c.op, c.sha256 from loom_entry_changes(new.entry) c
  on conflict (state_key, name, seq) do nothing;
  return null;
end
$$;

-- Remembers the last restore or undo, whichever version of a node makes it. A node of an earlier schema version does not keep the index,
-- so it is made again from the entries that the operation left as they were: those up to the head that it found, less what it removed.
-- Among adopted entries, at most the last causes that.
create or replace function loom_audit_note_restore() returns trigger language plpgsql as $$
declare
  v_operation jsonb := new.entry -> new.action;
  v_after bigint := coalesce(substring(v_operation #>> '{previous_head,seq}' from '^[0-9]{1,15}$')::bigint, 0)
    - coalesce(substring(v_operation ->> 'replaced_entries' from '^[0-9]{1,15}$')::bigint, 0);
begin
  insert into loom_lineage as l (state_key, restored_seq) values (new.state_key, new.seq)
  on conflict (state_key) do update set restored_seq = excluded.restored_seq;
  if not loom_entry_is_told(new.entry) and coalesce(current_setting('loom.changes', true), '') <> 'kept'
    and new.seq = (select max(seq) from loom_audit where state_key = new.state_key) then
    v_after := greatest(0, least(v_after, new.seq - 1));
    delete from loom_change where state_key = new.state_key and seq > v_after;
    perform loom_index_changes(new.state_key, v_after);
  end if;
  return null;
end
$$;

-- As in the first schema. PostgreSQL cannot put the expression of an SQL function in place here, because convert_to is only stable, and
-- starts an executor for each call instead. A function in PL/pgSQL takes less than half the time.
create or replace function loom_value_sha256(value jsonb) returns bytea language plpgsql immutable strict parallel safe as $$
begin
  return sha256(convert_to(value::text, 'UTF8'));
end
$$;

-- A merge patch that sets members to anything but objects, which most patches are. Answers null for any other patch: see loom_merge.
-- Strict, so that the path does not look into arrays.
create function loom_merge_flat(p_target jsonb, p_patch jsonb) returns jsonb language sql immutable parallel safe as $$
  select case when jsonb_typeof(p_patch) = 'object' and not jsonb_path_exists(p_patch, 'strict $.* ? (@.type() == "object" || @ == null)')
              then case when jsonb_typeof(p_target) = 'object' then p_target else '{}' end || p_patch end
$$;

-- The answer to a commit that was made before, or null if it was not. p_request_hash is the digest of the request, if it has a key.
create function loom_earlier_answer(p_state_key text, p_event_id uuid, p_key text, p_request_hash text, p_restored_seq bigint)
returns jsonb language plpgsql as $$
declare
  v_seq bigint;
  v_entry jsonb;
  v_receipt jsonb;
begin
  -- The node sends a commit again if its first answer was lost. Only that node knows the event id, so the answer is right even if a
  -- restore has undone the change since.
  select seq, entry into v_seq, v_entry from loom_audit where state_key = p_state_key and event_id = p_event_id;
  if found then
    return coalesce(loom_commit_receipt(v_entry), '{"status": "idempotency_key_outdated"}');
  end if;
  select seq, entry into v_seq, v_entry from loom_audit where state_key = p_state_key and idempotency_key = p_key;
  if not found then
    return null;
  end if;
  -- A restore may have undone the change, or have brought an entry that was never made here.
  v_receipt := loom_commit_receipt(v_entry);
  return case when v_receipt is null or v_seq <= p_restored_seq then '{"status": "idempotency_key_outdated"}'
              when v_entry ->> 'request_sha256' = p_request_hash then v_receipt || '{"replayed": true}'
              else '{"status": "idempotency_key_reused"}' end;
end
$$;

-- The work of a change, see loom_commit. p_old_bytes is the size of the document, or null if there is none. It is stable, as
-- pg_column_size is: otherwise PostgreSQL would call it instead of putting its expression in place.
create function loom_change_work(p_change jsonb, p_old_bytes int) returns bigint language sql stable parallel safe as $$
  select 512 + case p_change ->> 'op'
    when 'merge' then pg_column_size(p_change) + coalesce(p_old_bytes, 0) + 1024 * least(128,
      case when pg_column_size(p_change) > 131072 then 128 else cardinality(string_to_array(p_change::text, '{')) - 1 end)
    when 'put' then pg_column_size(p_change) + coalesce(p_old_bytes, 0) / 16
    else coalesce(p_old_bytes, 0) / 16 end
$$;

-- Rows that a batch of commits reads, or has not yet written. They are not those of the tables: a later migration may add columns there.
create type loom_commit_document as (
  name text collate "C", value jsonb, revision bigint, sha256 bytea, bytes integer, updated_at timestamptz
);

create type loom_commit_entry as (
  seq bigint, event_id uuid, idempotency_key text, recorded_at timestamptz, action text, entry jsonb, hash bytea
);

create type loom_commit_change as (name text, seq bigint, revision bigint, op text, sha256 bytea);

-- Makes a batch of commits in one transaction, in order, each with exactly one audit entry. A commit that is refused leaves nothing, and
-- the rest go on: everything that can fail is found out before anything changes.
--
-- One statement reads all that the batch names: earlier commits with its event ids and keys, and size and revision of its documents. The
-- commits then change this copy, one after the other. One statement writes the result. So the number of statements does not depend on the
-- number of commits, and a document that many commits change is written once.
--
-- p_commits: [{event_id, action, actor, actor_name?, request_id, idempotency_key?, precondition?: {document, if_match?, if_none_match?},
--              changes: [{op: put | merge | delete, name, value?}, ...]}, ...]; names differ within one commit.
-- p_options: {max_document_bytes, max_deletes, lock_timeout_ms}, and from nodes of schema version 3 also {max_entry_bytes, max_work_bytes,
--            max_batch_work_bytes, max_untimed_work_bytes, max_hold_ms, max_merge_ms, timed, seen: {epoch, revision}?}, from version 4
--            also schema_version, that of the node
-- Answers, for each commit in order: {status: committed, seq, revision, epoch, event_id, created, replayed?}, or {status, ...} with
-- status precondition_failed (current_tag), document_not_found (name), document_too_large (name, bytes), too_many_changes (deletes) or
-- idempotency_key_reused. Nodes of schema version 3 also get audit_entry_too_large (bytes), commit_too_costly (bytes),
-- idempotency_key_outdated, or deferred (timed), which asks the node to send the commit again in the next batch; others get a status
-- that they know, and no commit of theirs is deferred. To a node whose schema_version no longer serves: {status: schema_ahead}, and no
-- commit. Every later version of this function must keep that: a breaking migration counts on it. (Earlier nodes test it beside the call.
-- PostgreSQL plans such a test each time, for a tenth of the time of a small commit.)
--
-- Work is counted in bytes of documents that a commit rewrites. A document of 8 MiB costs a merge patch of eight bytes as much as a
-- large one. A deletion counts a sixteenth, and each change 512 bytes. A merge takes some statements for each level, so each object of a
-- patch counts 1,024 bytes, up to the 128 levels that a patch can have. A batch ends when its work or its time is used up, so that other
-- nodes get their turn. Much work needs a transaction with a statement_timeout (timed).
--
-- With another isolation than READ COMMITTED, the snapshot would be older than the lock, so nodes of schema version 3 get null.
-- The settings keep a plan from the time when a table was empty from being slow when it is large. A custom plan would copy every document
-- that it has as a parameter, so plans are generic. Where a policy may hide rows, PostgreSQL refuses the commit: a hidden document would
-- look like one that does not exist.
create or replace function loom_commit(p_state_key text, p_commits jsonb, p_options jsonb) returns jsonb
language plpgsql set jit = off set enable_seqscan = off set enable_nestloop = off set plan_cache_mode = force_generic_plan
set row_security = off as $$
#variable_conflict use_column
declare
  -- Whether the node is of schema version 3 or later.
  v_is_new constant boolean := p_options ? 'max_entry_bytes';
  v_timed constant boolean := coalesce((p_options ->> 'timed')::boolean, false);
  v_seen constant jsonb := p_options -> 'seen';
  v_now text;
  v_locked_at timestamptz;
  v_until timestamptz;
  v_merge_until timestamptz;
  v_state loom_state;
  v_first_revision bigint;
  v_compatible_from int;
  v_lineage text;
  v_restored_seq bigint;
  -- The documents that the batch names, as the commits so far have left them, and their places in this array by name. One that does not
  -- exist has no bytes. One that was put or merged, and not yet written, has its value.
  v_documents loom_commit_document[];
  v_places jsonb;
  -- The event ids and keys that the trail has already, or that the batch has twice.
  v_known_events uuid[];
  v_known_keys text[];
  -- The names and rows of the commits that are not yet written, and the size of what is to be written.
  v_deleted text[] := '{}';
  v_entries loom_commit_entry[] := '{}';
  v_index loom_commit_change[] := '{}';
  v_unwritten bigint := 0;
  v_results jsonb[] := '{}';
  v_deferred jsonb;
  v_work bigint := 0;
  v_commit jsonb;
  v_action text;
  v_event_id uuid;
  v_key text;
  v_may_be_known boolean;
  v_request_hash text;
  v_answer jsonb;
  v_tag text;
  v_cost bigint;
  v_delete_count bigint;
  v_changes jsonb;
  v_change jsonb;
  v_name text;
  v_place int;
  v_new loom_commit_document;
  v_target jsonb;
  v_value jsonb;
  v_text text;
  v_digest bytea;
  -- The changes of the commit as its entry records them, and the documents that they lead to.
  v_recorded jsonb[];
  v_made loom_commit_document[];
  v_created boolean;
  v_entry jsonb;
  v_time timestamptz;
begin
  if v_is_new and current_setting('transaction_isolation') <> 'read committed' then
    return null;
  end if;
  -- Before the lock: the server reads its control file for the answer.
  v_now := loom_current_lineage();
  -- The entries below are indexed below. (A function that sets this of its own, as it sets others, can only be made by a superuser.) An
  -- assignment takes less time than a statement.
  v_text := set_config('lock_timeout', p_options ->> 'lock_timeout_ms', true) || set_config('loom.changes', 'kept', true);
  select * into v_state from loom_state where state_key = p_state_key for no key update;
  if not found then
    raise exception 'state "%" does not exist', p_state_key using errcode = 'no_data_found';
  end if;
  v_locked_at := clock_timestamp();
  v_until := v_locked_at + coalesce((p_options ->> 'max_hold_ms')::bigint, 4000) * interval '1 millisecond';

  v_name := p_commits #>> '{0,changes,0,name}';
  if jsonb_array_length(p_commits) = 1 and jsonb_array_length(p_commits #> '{0,changes}') = 1
    and coalesce(p_commits #>> '{0,precondition,document}', v_name) = v_name and not p_commits -> 0 ? 'idempotency_key' then
    -- As below, for a single name and event id: the start of the large statement takes three times as long.
    select m.value::int, l.lineage, l.restored_seq, jsonb_build_object(v_name, 1),
           array[row(v_name, null, d.revision, null, d.bytes, null)::loom_commit_document],
           case when a.event_id is not null then array[a.event_id] end
      into v_compatible_from, v_lineage, v_restored_seq, v_places, v_documents, v_known_events
      from (select) one
      left join loom_meta m on m.key = 'schema_compatible_from'
      left join loom_lineage l on l.state_key = p_state_key
      left join loom_document d on d.state_key = p_state_key and d.name = v_name
      left join loom_audit a on a.state_key = p_state_key and a.event_id = (p_commits #>> '{0,event_id}')::uuid;
  else
    -- Each name, event id and key is one probe of an index, whatever the planner expects: a lateral query with an offset cannot become
    -- a join, and neither can a scalar query.
    select m.version, l.lineage, l.restored_seq, d.places, d.documents, e.ids, k.keys
      into v_compatible_from, v_lineage, v_restored_seq, v_places, v_documents, v_known_events, v_known_keys
      from (select coalesce(jsonb_object_agg(name, place), '{}') as places,
                   coalesce(array_agg(row(name, null, revision, null, bytes, null)::loom_commit_document order by place), '{}')
                     as documents
              from (select n.name, row_number() over () as place, d.revision, d.bytes
                      from (select path #>> '{}' as name from jsonb_path_query(p_commits, '$[*].changes[*].name') as p (path)
                            union
                            select path #>> '{}' from jsonb_path_query(p_commits, '$[*].precondition.document') as p (path)) n
                      left join lateral (select revision, bytes from loom_document
                                          where state_key = p_state_key and name = n.name offset 0) d on true
                     where n.name is not null) named) d
     cross join (
            select array_agg(id) as ids
              from (select id from (select (path #>> '{}')::uuid as id from jsonb_path_query(p_commits, '$[*].event_id') as p (path)) sent
                     group by id
                    having count(*) > 1
                        or (select seq from loom_audit where state_key = p_state_key and event_id = id) is not null) known) e
     cross join (
            select array_agg(key) as keys
              from (select key from (select path #>> '{}' as key from jsonb_path_query(p_commits, '$[*].idempotency_key') as p (path)) sent
                     group by key
                    having count(*) > 1
                        or (select seq from loom_audit where state_key = p_state_key and idempotency_key = key) is not null) known) k
      left join loom_lineage l on l.state_key = p_state_key
      left join (select value::int as version from loom_meta where key = 'schema_compatible_from') m on true;
  end if;
  if (v_compatible_from <= (p_options ->> 'schema_version')::int) is not true and p_options ? 'schema_version' then
    return '{"status": "schema_ahead"}';
  end if;
  if v_restored_seq is null or v_lineage is distinct from v_now
    or (v_seen ->> 'epoch' = v_state.epoch and (v_seen ->> 'revision')::bigint > v_state.revision) then
    if loom_check_lineage(p_state_key, v_seen, p_commits #>> '{0,request_id}') then
      select * into v_state from loom_state where state_key = p_state_key;
    end if;
  end if;
  v_first_revision := v_state.revision;

  for v_position in 0 .. jsonb_array_length(p_commits) loop
    v_commit := p_commits -> v_position;
    v_action := v_commit ->> 'action';
    v_event_id := (v_commit ->> 'event_id')::uuid;
    v_key := v_commit ->> 'idempotency_key';
    v_may_be_known := v_event_id = any (v_known_events) or v_key = any (v_known_keys);

    -- Write what the commits so far have made: at the end, before a commit that reads the tables, and whenever it exceeds 1 MiB.
    if (v_commit is null and v_state.revision > v_first_revision)
      or (v_unwritten > 0 and (v_may_be_known or v_action = 'state.put' or v_unwritten > 1048576)) then
      -- One by one: for "= any", PostgreSQL may read all names of the state. An upsert is a probe for each row, too.
      foreach v_name in array v_deleted loop
        delete from loom_document where state_key = p_state_key and name = v_name;
      end loop;
      with written as (
        insert into loom_document (state_key, name, value, revision, updated_at)
        select p_state_key, name, value, revision, updated_at from unnest(v_documents) where value is not null
        on conflict (state_key, name) do update
          set value = excluded.value, revision = excluded.revision, updated_at = excluded.updated_at
      ), recorded as (
        insert into loom_audit (state_key, seq, event_id, idempotency_key, recorded_at, action, entry, hash)
        select p_state_key, seq, event_id, idempotency_key, recorded_at, action, entry, hash from unnest(v_entries)
      ), indexed as (
        insert into loom_change (state_key, name, seq, revision, op, sha256)
        select p_state_key, name, seq, revision, op, sha256 from unnest(v_index)
        -- A row that somebody has inserted here by hand must not stop commits.
        on conflict (state_key, name, seq) do update
          set revision = excluded.revision, op = excluded.op, sha256 = excluded.sha256
      )
      update loom_state
        set revision = v_state.revision, audit_seq = v_state.audit_seq, audit_hash = v_state.audit_hash,
            documents = v_state.documents, bytes = v_state.bytes, updated_at = v_state.updated_at
        where state_key = p_state_key and v_commit is null;
      exit when v_commit is null;
      v_documents := array(select row(name, null, revision, null, bytes, null)::loom_commit_document
                             from unnest(v_documents) with ordinality order by ordinality);
      v_deleted := '{}';
      v_entries := '{}';
      v_index := '{}';
      v_unwritten := 0;
    end if;
    exit when v_commit is null;

    if v_deferred is not null then
      v_results := v_results || v_deferred;
      continue;
    end if;
    v_changes := v_commit -> 'changes';
    if v_key is not null then
      v_request_hash := encode(sha256(convert_to(v_action || ' ' || v_changes::text, 'UTF8')), 'hex');
    end if;
    if v_may_be_known then
      v_answer := loom_earlier_answer(p_state_key, v_event_id, v_key, v_request_hash, v_restored_seq);
      if v_answer is not null then
        v_results := v_results || (case when v_is_new or v_answer ->> 'status' <> 'idempotency_key_outdated' then v_answer
                                        else '{"status": "idempotency_key_reused"}' end);
        continue;
      end if;
    end if;

    if v_commit ? 'precondition' then
      v_place := (v_places -> (v_commit #>> '{precondition,document}'))::int;
      v_tag := v_state.epoch || '.' || case when v_commit #>> '{precondition,document}' is null then v_state.revision
                                            when v_documents[v_place].bytes is not null then v_documents[v_place].revision end;
      if not loom_precondition_holds(v_commit -> 'precondition', v_tag) then
        v_results := v_results || jsonb_build_object('status', 'precondition_failed', 'current_tag', v_tag);
        continue;
      end if;
    end if;

    -- Weigh the work before any of it.
    v_delete_count := 0;
    v_cost := 0;
    for v_number in 0 .. jsonb_array_length(v_changes) - 1 loop
      v_change := v_changes -> v_number;
      v_cost := v_cost + loom_change_work(v_change, v_documents[(v_places -> (v_change ->> 'name'))::int].bytes);
    end loop;
    if v_action = 'state.put' then
      select v_state.documents - count(bytes),
             v_cost + 512 * (v_state.documents - count(bytes)) + greatest(v_state.bytes - coalesce(sum(bytes), 0), 0) / 16
        into v_delete_count, v_cost
        from (select v_documents[(v_places -> (name #>> '{}'))::int].bytes from jsonb_path_query(v_changes, '$[*].name') as p (name)) c;
    end if;
    v_answer := case
      when v_delete_count > (p_options ->> 'max_deletes')::bigint
        then jsonb_build_object('status', 'too_many_changes', 'deletes', v_delete_count)
      when v_cost > coalesce((p_options ->> 'max_work_bytes')::bigint, 100663296)
        then jsonb_build_object('status', 'commit_too_costly', 'bytes', v_cost)
      when v_is_new and not v_timed and v_cost > (p_options ->> 'max_untimed_work_bytes')::bigint
        then '{"status": "deferred", "timed": true}'
      when v_is_new and v_work > 0 and (v_work + v_cost > (p_options ->> 'max_batch_work_bytes')::bigint or clock_timestamp() > v_until)
        then jsonb_build_object('status', 'deferred', 'timed', v_timed)
      end;
    v_time := clock_timestamp();
    if v_answer is null and v_action = 'state.put' then
      -- It deletes all other documents. Their number may differ from the counter, if someone has inserted some by hand.
      select v_changes || coalesce(jsonb_agg(jsonb_build_object('op', 'delete', 'name', name) order by name), '[]'),
             v_places || coalesce(jsonb_object_agg(name, cardinality(v_documents) + place), '{}'),
             v_documents
               || coalesce(array_agg(row(name, null, revision, null, bytes, null)::loom_commit_document order by place), '{}'),
             case when count(*) > (p_options ->> 'max_deletes')::bigint
                  then jsonb_build_object('status', 'too_many_changes', 'deletes', count(*)) end
        into v_changes, v_places, v_documents, v_answer
        from (select name, revision, bytes, row_number() over () as place from loom_document d
               where state_key = p_state_key
                 and not exists (select from jsonb_path_query(v_changes, '$[*].name') as p (path) where path #>> '{}' = d.name)) others;
    end if;

    -- First find out everything, then change: a commit that fails half-way must leave nothing.
    v_recorded := '{}';
    v_made := '{}';
    v_created := false;
    for v_number in 0 .. case when v_answer is null then jsonb_array_length(v_changes) else 0 end - 1 loop
      v_change := v_changes -> v_number;
      v_place := (v_places -> (v_change ->> 'name'))::int;
      if v_change ->> 'op' = 'delete' then
        if v_documents[v_place].bytes is null then
          -- Merging null into a state removes what is there, and is no error when nothing is (RFC 7396).
          continue when v_action = 'state.patch';
          v_answer := jsonb_build_object('status', 'document_not_found', 'name', v_change -> 'name');
          exit;
        end if;
        v_made := v_made || row(v_change ->> 'name', null, v_state.revision + 1, null, null, v_time)::loom_commit_document;
      else
        v_value := v_change -> 'value';
        if v_change ->> 'op' = 'merge' then
          v_target := v_documents[v_place].value;
          if v_target is null and v_documents[v_place].bytes is not null then
            select value into v_target from loom_document where state_key = p_state_key and name = v_change ->> 'name';
          end if;
          v_merge_until := case when v_work > 0 then v_until
            else v_locked_at + coalesce((p_options ->> 'max_merge_ms')::bigint, 5000) * interval '1 millisecond' end;
          v_value := coalesce(case when clock_timestamp() < v_merge_until then loom_merge_flat(v_target, v_value) end,
            loom_merge(v_target, v_value, v_merge_until));
          if v_value is null then
            v_answer := case when v_is_new and v_work > 0 then jsonb_build_object('status', 'deferred', 'timed', v_timed)
                             else jsonb_build_object('status', 'commit_too_costly', 'bytes', v_cost) end;
            exit;
          end if;
        end if;
        v_text := v_value::text;
        if v_change ->> 'op' = 'merge' and octet_length(v_text) > (p_options ->> 'max_document_bytes')::bigint then
          v_answer := jsonb_build_object('status', 'document_too_large', 'name', v_change -> 'name', 'bytes', octet_length(v_text));
          exit;
        end if;
        v_digest := sha256(convert_to(v_text, 'UTF8'));
        v_made := v_made || row(v_change ->> 'name', v_value, v_state.revision + 1, v_digest, octet_length(v_text),
          v_time)::loom_commit_document;
        v_created := v_created or v_documents[v_place].bytes is null;
        v_change := v_change || case when v_documents[v_place].bytes is null
                                     then jsonb_build_object('sha256', encode(v_digest, 'hex'), 'created', true)
                                     else jsonb_build_object('sha256', encode(v_digest, 'hex')) end;
      end if;
      v_recorded := v_recorded || v_change;
    end loop;
    if v_answer is null then
      v_entry := jsonb_build_object(
        'seq', v_state.audit_seq + 1,
        'event_id', v_commit -> 'event_id',
        'recorded_at', to_char(v_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'action', v_action,
        'actor', v_commit -> 'actor',
        'request_id', v_commit -> 'request_id',
        'revision', v_state.revision + 1,
        'epoch', v_state.epoch,
        'changes', to_jsonb(v_recorded));
      if v_commit ? 'actor_name' then
        v_entry := v_entry || jsonb_build_object('actor_name', v_commit -> 'actor_name');
      end if;
      if v_key is not null then
        v_entry := v_entry || jsonb_build_object('idempotency_key', v_key, 'request_sha256', v_request_hash);
      end if;
      -- The finished entry must fit in a backup: escapes, deletions and all.
      v_text := v_entry::text;
      if octet_length(v_text) > coalesce((p_options ->> 'max_entry_bytes')::bigint, 41943040) then
        v_answer := jsonb_build_object('status', 'audit_entry_too_large', 'bytes', octet_length(v_text));
      end if;
    end if;
    if v_answer ->> 'status' = 'deferred' then
      v_deferred := v_answer;
    else
      v_work := v_work + v_cost;
    end if;
    if v_answer is not null then
      v_results := v_results || (case
        when v_is_new or v_answer ->> 'status' not in ('commit_too_costly', 'audit_entry_too_large') then v_answer
        else jsonb_build_object('status', 'too_many_changes', 'deletes', v_delete_count) end);
      continue;
    end if;

    v_state.revision := v_state.revision + 1;
    v_state.audit_seq := v_state.audit_seq + 1;
    v_state.updated_at := v_time;
    -- As loom_chain_hash does, from the text that is already there.
    v_state.audit_hash := sha256(v_state.audit_hash || convert_to(v_text, 'UTF8'));
    v_entries := v_entries
      || row(v_state.audit_seq, v_event_id, v_key, v_time, v_action, v_entry, v_state.audit_hash)::loom_commit_entry;
    v_unwritten := v_unwritten + octet_length(v_text);
    for v_number in 1 .. cardinality(v_made) loop
      v_new := v_made[v_number];
      v_place := (v_places -> v_new.name)::int;
      v_state.documents := v_state.documents + (v_new.bytes is not null)::int - (v_documents[v_place].bytes is not null)::int;
      v_state.bytes := v_state.bytes + coalesce(v_new.bytes, 0) - coalesce(v_documents[v_place].bytes, 0);
      v_documents[v_place] := v_new;
      v_index := v_index
        || row(v_new.name, v_state.audit_seq, v_state.revision, v_recorded[v_number] ->> 'op', v_new.sha256)::loom_commit_change;
      if v_new.bytes is null then
        v_deleted := v_deleted || v_new.name;
      else
        v_unwritten := v_unwritten + v_new.bytes;
      end if;
    end loop;
    v_results := v_results || jsonb_build_object('status', 'committed', 'seq', v_state.audit_seq, 'revision', v_state.revision,
      'epoch', v_state.epoch, 'event_id', v_commit -> 'event_id', 'created', v_created);
  end loop;
  return to_jsonb(v_results);
end
$$;

-- Grants the roles that serve with loom_state and loom_commit the same rights on what later migrations added. So the rights of a node of
-- an earlier version suffice.
create or replace function loom_share_rights() returns void language plpgsql as $$
declare
  v_right record;
  v_object text;
begin
  for v_right in
    select acl.privilege_type as name, case when acl.grantee = 0 then 'public' else acl.grantee::regrole::text end as grantee
      from pg_class c, aclexplode(c.relacl) acl
     where c.oid = 'loom_state'::regclass and acl.grantee <> c.relowner
  loop
    foreach v_object in array array['loom_lineage', 'loom_change'] loop
      execute format('grant %s on %s to %s', v_right.name, v_object, v_right.grantee);
    end loop;
  end loop;
  for v_right in
    select case when acl.grantee = 0 then 'public' else acl.grantee::regrole::text end as grantee
      from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
     where p.oid = 'loom_commit(text, jsonb, jsonb)'::regprocedure and acl.grantee <> p.proowner
  loop
    foreach v_object in array array[
      'loom_current_lineage()', 'loom_check_lineage(text, jsonb, text)', 'loom_merge(jsonb, jsonb, timestamptz)',
      'loom_audit_note_restore()', 'loom_audit_note_changes()',
      'loom_share_rights()', 'loom_entry_changes(jsonb)', 'loom_entry_is_told(jsonb)', 'loom_index_changes(text, bigint)',
      'loom_rebuild_changes(text)', 'loom_merge_flat(jsonb, jsonb)', 'loom_change_work(jsonb, integer)',
      'loom_earlier_answer(text, uuid, text, text, bigint)', 'loom_fold_step(jsonb, text, jsonb)', 'loom_fold(text, jsonb)',
      'loom_wrong_merges(text, bigint[], boolean, integer, integer)']
    loop
      execute format('grant execute on function %s to %s', v_object, v_right.grantee);
    end loop;
  end loop;
end
$$;

select loom_share_rights();

-- The index of the entries so far. Commits go on meanwhile: only what they appended is left for the end, under the lock. A restore may
-- have replaced entries, too; then the index of that state is made again.
select set_config('loom.indexed', (
  select coalesce(jsonb_object_agg(state_key, jsonb_build_object('seq', audit_seq, 'hash', encode(audit_hash, 'hex'))), '{}')::text
    from loom_state), true);

select loom_index_changes(state_key, 0) from jsonb_object_keys(current_setting('loom.indexed')::jsonb) as i (state_key);

lock table loom_audit in share row exclusive mode;

create trigger loom_audit_changed after insert on loom_audit
  for each row when (coalesce(current_setting('loom.changes', true), '') <> 'kept') execute function loom_audit_note_changes();

-- Finds the restores and undos, which may have changed any document.
create index loom_audit_restores on loom_audit (state_key, seq) where action in ('restore', 'undo');

-- From now on the seq of each state up to which its index is right.
select set_config('loom.indexed', (
  select coalesce(jsonb_object_agg(s.state_key, coalesce(a.seq, 0)), '{}')::text
    from (select state_key, current_setting('loom.indexed')::jsonb -> state_key as head from loom_state) s
    left join loom_audit a on a.state_key = s.state_key and a.seq = (s.head ->> 'seq')::bigint and encode(a.hash, 'hex') = s.head ->> 'hash'),
  true);

delete from loom_change c using jsonb_each_text(current_setting('loom.indexed')::jsonb) as i (state_key, seq)
 where c.state_key = i.state_key and c.seq > i.seq::bigint;

delete from loom_change c where not exists (select from loom_state s where s.state_key = c.state_key);

select loom_index_changes(state_key, seq::bigint) from jsonb_each_text(current_setting('loom.indexed')::jsonb) as i (state_key, seq);

analyze loom_change;
