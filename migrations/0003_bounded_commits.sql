-- loom: compatible
-- Why: bounds the work of a batch of commits, makes merge patches linear, and starts a new epoch when commits were lost.
-- Locks: loom_audit for an instant, against writers only, to create a trigger. A restore in its last step delays it, and the commits after it.

-- One row for each state: the copy of the database that its last epoch belongs to, and its last restore. (Columns of loom_state
-- would have to wait for every backup in progress, and commits for them.)
create table loom_lineage (
  state_key text collate "C" primary key,
  -- See loom_current_lineage. Null until a node of schema version 3 has committed.
  lineage text,
  -- Seq of the last entry of a restore or undo. An Idempotency-Key of an earlier entry is outdated.
  restored_seq bigint not null default 0,
  -- How often a commit has started a new epoch, when it did so last, and why.
  epoch_changes bigint not null default 0,
  epoch_changed_at timestamptz,
  epoch_reason text check (epoch_reason in ('lineage', 'revision'))
);

-- Remembers the last restore or undo, whichever version of a node makes it.
create function loom_audit_note_restore() returns trigger language plpgsql as $$
begin
  insert into loom_lineage as l (state_key, restored_seq) values (new.state_key, new.seq)
  on conflict (state_key) do update set restored_seq = excluded.restored_seq;
  return null;
end
$$;

create trigger loom_audit_restored after insert on loom_audit
  for each row when (new.action in ('restore', 'undo')) execute function loom_audit_note_restore();

-- Without an undo record, the last restore may be any entry up to the head.
insert into loom_lineage (state_key, restored_seq)
select s.state_key, coalesce((
         select a.seq
           from loom_snapshot n join loom_audit a on a.state_key = n.state_key and a.event_id = n.event_id
          where n.state_key = s.state_key and n.taken_at = s.last_restore_at
          order by n.revision desc limit 1), s.audit_seq)
  from loom_state s
 where s.last_restore_at is not null;

-- Identifies this copy of the database: the cluster, its timeline, and the database in it. A promotion or a point-in-time recovery
-- starts a new timeline; a dump restored elsewhere is in another database. Null if the server does not say. It runs as its owner, so
-- that nodes with different roles get the same answer.
create function loom_current_lineage() returns text
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  v_system text := '-';
begin
  begin
    v_system := (select system_identifier from pg_control_system());
  exception when others then
    -- Some managed servers refuse this. The timeline alone still shows a promotion.
  end;
  return v_system || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8) || '.' ||
    (select oid from pg_database where datname = current_database());
exception when others then
  -- No fault of this look-up may stop commits.
  return null;
end
$$;

-- Starts a new epoch if commits of the current one may have been lost: this is another copy of the database than the one of the last
-- commit, or the state has a smaller revision than the caller has seen. Otherwise entity tags would name two contents. The new
-- epoch has an audit entry and a revision of its own. Answers whether it has started one.
--
-- p_seen: {epoch, revision}, the highest revision that the caller has seen, or null. The caller has locked the state's row.
create function loom_check_lineage(p_state_key text, p_seen jsonb, p_request_id text) returns boolean language plpgsql as $$
declare
  v_now text := loom_current_lineage();
  v_state loom_state;
  v_known text;
  v_found boolean;
  v_reason text;
  v_epoch text;
  v_time timestamptz;
  v_event_id uuid;
  v_entry jsonb;
  v_hash bytea;
begin
  select * into v_state from loom_state where state_key = p_state_key;
  select lineage into v_known from loom_lineage where state_key = p_state_key;
  v_found := found;
  if v_known <> v_now then
    v_reason := 'lineage';
  elsif p_seen ->> 'epoch' = v_state.epoch and (p_seen ->> 'revision')::bigint > v_state.revision then
    v_reason := 'revision';
  elsif not v_found or (v_known is null and v_now is not null) then
    insert into loom_lineage as l (state_key, lineage) values (p_state_key, v_now)
    on conflict (state_key) do update set lineage = excluded.lineage;
  end if;
  if v_reason is null then
    return false;
  end if;
  v_epoch := left(translate(encode(sha256(uuid_send(gen_random_uuid())), 'base64'), '+/', 'xx'), 10);
  v_event_id := gen_random_uuid();
  v_time := clock_timestamp();
  v_entry := jsonb_build_object(
    'seq', v_state.audit_seq + 1,
    'event_id', v_event_id,
    'recorded_at', to_char(v_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
    'action', 'epoch',
    'actor', 'loom',
    'request_id', p_request_id,
    'revision', v_state.revision + 1,
    'epoch', v_epoch,
    'changes', '[]'::jsonb,
    'epoch_change', jsonb_build_object('reason', v_reason, 'previous_epoch', v_state.epoch, 'previous_revision', v_state.revision,
      'seen_revision', case when v_reason = 'revision' then p_seen -> 'revision' end, 'previous_lineage', v_known, 'lineage', v_now));
  v_hash := loom_chain_hash(v_state.audit_hash, v_entry);
  insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
  values (p_state_key, v_state.audit_seq + 1, v_event_id, v_time, 'epoch', v_entry, v_hash);
  update loom_state
    set epoch = v_epoch, revision = v_state.revision + 1, audit_seq = v_state.audit_seq + 1, audit_hash = v_hash, updated_at = v_time
    where state_key = p_state_key;
  insert into loom_lineage as l (state_key, lineage, epoch_changes, epoch_changed_at, epoch_reason)
  values (p_state_key, v_now, 1, v_time, v_reason)
  on conflict (state_key) do update
    set lineage = coalesce(excluded.lineage, l.lineage), epoch_changes = l.epoch_changes + 1,
        epoch_changed_at = excluded.epoch_changed_at, epoch_reason = excluded.epoch_reason;
  return true;
end
$$;

-- The text pieces of the objects at one level of a merge. Sorted by position, the pieces of all levels are the result.
create type loom_merge_level as (positions text[], pieces text[]);

-- A JSON merge patch, RFC 7396 section 2. An absent target is SQL null. Answers null if the time is over.
--
-- Goes down level by level, only into objects of the patch, and handles all objects of a level at once: a call for each object would
-- cost more than its work, and a copy of the result at each level would cost depth times size. So the result is built as text, from
-- pieces, and parsed once. A position is the path of the object: for each level the length and the digits of its number there. "z"
-- sorts after these, so it closes the object.
--
-- First goes down the path of objects with a single member in the patch, and no other in the target. Nothing is merged there, and
-- #> copies a large object less often than a level does.
create function loom_merge(p_target jsonb, p_patch jsonb, p_until timestamptz) returns jsonb
language plpgsql volatile parallel safe set jit = off set enable_nestloop = off set plan_cache_mode = force_generic_plan as $$
#variable_conflict use_column
declare
  -- Concatenation reads a compressed value once, and not again at each use.
  v_target jsonb := case when jsonb_typeof(p_target) = 'object' then p_target || '{}' end;
  v_path text[] := '{}';
  v_key text;
  v_targets jsonb[];
  v_patches jsonb[];
  v_next_targets jsonb[];
  v_next_patches jsonb[];
  v_opens text[];
  v_positions text[] := array[''];
  v_members text[];
  v_parents int[];
  v_keys text[];
  v_level loom_merge_level;
  v_levels loom_merge_level[] := '{}';
begin
  if jsonb_typeof(p_patch) is distinct from 'object' then
    return p_patch;
  end if;
  loop
    select min(key) into v_key
      from (select patch, jsonb_object_keys(patch) as key from (select p_patch #> v_path as patch offset 0) p) k
    having count(*) = 1 and bool_and(patch @> jsonb_build_object(key, '{}'::jsonb));
    exit when v_key is null or clock_timestamp() > p_until;
    if jsonb_typeof(v_target #> v_path) <> 'object' then
      v_target := null;
    elsif exists (select from jsonb_object_keys(v_target #> v_path) as k (key) where key <> v_key) then
      exit;
    end if;
    v_path := v_path || v_key;
  end loop;
  v_targets := array[case when jsonb_typeof(v_target #> v_path) = 'object' then v_target #> v_path end];
  v_patches := array[p_patch #> v_path];
  v_opens := array[coalesce((select string_agg('{' || to_json(key) || ':', '' order by n)
                               from unnest(v_path) with ordinality as u (key, n)), '') || '{'];
  loop
    if clock_timestamp() > p_until then
      return null;
    end if;
    -- What an object keeps of its target, and what it takes from its patch as it is. The containment test finds objects without a
    -- copy of them.
    select array_agg(members) into v_members from (
      select (
        select string_agg(member, ',') from (
          select to_json(key) || ':' || (n.target -> key) as member
            from (select jsonb_object_keys(n.target) as key) t where not n.patch ? key
          union all
          select to_json(key) || ':' || value
            from (select key, n.patch -> key as value
                    from (select jsonb_object_keys(n.patch) as key offset 0) p
                   where not n.patch @> jsonb_build_object(key, '{}'::jsonb) offset 0) v
           where value <> 'null'
        ) m) as members
        from (select unnest(v_targets) as target, unnest(v_patches) as patch offset 0) n
    ) o;
    select array_agg(parent), array_agg(key) into v_parents, v_keys
      from (select patch, parent, jsonb_object_keys(patch) as key
              from (select unnest(v_patches) as patch, generate_subscripts(v_patches, 1) as parent offset 0) n offset 0) k
     where patch @> jsonb_build_object(key, '{}'::jsonb);
    select array_agg(position), array_agg(piece) into v_level.positions, v_level.pieces from (
      select position, open || coalesce(members, '') || case when v_keys is null then '}' else '' end as piece
        from (select unnest(v_positions) as position, unnest(v_opens) as open, unnest(v_members) as members offset 0) n
      union all
      select unnest(v_positions) || 'z', '}' where v_keys is not null
    ) p;
    v_levels := v_levels || v_level;
    exit when v_keys is null;
    -- A loop copies a large object half as often as a query with array_agg.
    v_next_targets := '{}';
    v_next_patches := '{}';
    for i in 1 .. cardinality(v_keys) loop
      v_next_targets[i] := v_targets[v_parents[i]] -> v_keys[i];
      if jsonb_typeof(v_next_targets[i]) <> 'object' then
        v_next_targets[i] := null;
      end if;
      v_next_patches[i] := v_patches[v_parents[i]] -> v_keys[i];
    end loop;
    v_targets := v_next_targets;
    v_patches := v_next_patches;
    -- A join, because a query takes time in proportion to n for the element n of an array.
    select array_agg(position || length(to_hex(ordinal)) || to_hex(ordinal) order by ordinal),
           array_agg(case when first and empty then '' else ',' end || to_json(key) || ':{' order by ordinal)
      into v_positions, v_opens
      from (select ordinal, key, position, empty, parent is distinct from lag(parent) over (order by ordinal) as first
              from (select unnest(v_parents) as parent, unnest(v_keys) as key, generate_series(1, cardinality(v_keys)) as ordinal offset 0) k
              join (select n, position, members is null as empty
                      from (select unnest(v_positions) as position, unnest(v_members) as members,
                                   generate_series(1, cardinality(v_positions)) as n offset 0) o offset 0) p on n = parent) c;
  end loop;
  return ((
    select string_agg(piece, '' order by position collate "C")
      from (select unnest((l).positions) as position, unnest((l).pieces) as piece from (select unnest(v_levels) as l offset 0) s) p)
    || repeat('}', cardinality(v_path)))::jsonb;
end
$$;

create or replace function loom_merge_patch(target jsonb, patch jsonb) returns jsonb
language sql immutable parallel safe as $$
  select loom_merge(target, patch, 'infinity')
$$;

-- What a commit answered, from its entry; null if no commit of LOOM made the entry. The answer becomes headers, so its members must have
-- their form even if someone has edited the entry.
create or replace function loom_commit_receipt(p_entry jsonb) returns jsonb language sql immutable parallel safe as $$
  select jsonb_build_object('status', 'committed', 'seq', p_entry -> 'seq', 'revision', p_entry -> 'revision',
    'epoch', p_entry -> 'epoch', 'event_id', p_entry -> 'event_id',
    'created', coalesce(p_entry -> 'changes' @> '[{"created": true}]', false))
  where p_entry ->> 'action' in ('document.put', 'document.patch', 'document.delete', 'state.put', 'state.patch')
    and (p_entry ->> 'epoch') collate "C" ~ '^[0-9A-Za-z_-]{1,64}$'
    and jsonb_typeof(p_entry -> 'revision') = 'number' and (p_entry ->> 'revision') collate "C" ~ '^[0-9]{1,16}$'
$$;

-- Makes a batch of commits in one transaction, in order, each with exactly one audit entry. A commit that is refused leaves nothing, and
-- the rest go on: everything that can fail is found out before anything changes.
--
-- p_commits: [{event_id, action, actor, request_id, idempotency_key?, precondition?: {document, if_match?, if_none_match?},
--              changes: [{op: put | merge | delete, name, value?}, ...]}, ...]; names differ within one commit.
-- p_options: {max_document_bytes, max_deletes, lock_timeout_ms}, and from nodes of schema version 3 also {max_entry_bytes, max_work_bytes,
--            max_batch_work_bytes, max_untimed_work_bytes, max_hold_ms, max_merge_ms, timed, seen: {epoch, revision}?}
-- Answers, for each commit in order: {status: committed, seq, revision, epoch, event_id, created, replayed?}, or {status, ...} with
-- status precondition_failed (current_tag), document_not_found (name), document_too_large (name, bytes), too_many_changes (deletes) or
-- idempotency_key_reused. Nodes of schema version 3 also get audit_entry_too_large (bytes), commit_too_costly (bytes),
-- idempotency_key_outdated, or deferred (timed), which asks the node to send the commit again in the next batch; others get a status
-- that they know, and no commit of theirs is deferred.
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
  v_max_document_bytes constant bigint := (p_options ->> 'max_document_bytes')::bigint;
  v_max_deletes constant bigint := (p_options ->> 'max_deletes')::bigint;
  v_is_new constant boolean := p_options ? 'max_entry_bytes';
  v_max_entry_bytes constant bigint := coalesce((p_options ->> 'max_entry_bytes')::bigint, 41943040);
  v_max_work constant bigint := coalesce((p_options ->> 'max_work_bytes')::bigint, 100663296);
  v_max_batch_work constant bigint := (p_options ->> 'max_batch_work_bytes')::bigint;
  v_max_untimed_work constant bigint := (p_options ->> 'max_untimed_work_bytes')::bigint;
  v_max_hold constant interval := coalesce((p_options ->> 'max_hold_ms')::bigint, 4000) * interval '1 millisecond';
  v_max_merge constant interval := coalesce((p_options ->> 'max_merge_ms')::bigint, 5000) * interval '1 millisecond';
  v_timed constant boolean := coalesce((p_options ->> 'timed')::boolean, false);
  v_seen constant jsonb := p_options -> 'seen';
  v_until timestamptz;
  v_epoch text;
  v_revision bigint;
  v_seq bigint;
  v_hash bytea;
  v_documents bigint;
  v_bytes bigint;
  v_first_revision bigint;
  v_lineage text;
  v_restored_seq bigint;
  v_results jsonb[] := '{}';
  v_deferred jsonb;
  v_work bigint := 0;
  v_cost bigint;
  v_commit jsonb;
  v_change jsonb;
  v_changes jsonb;
  v_change_list jsonb[];
  v_old_bytes int[];
  v_recorded jsonb[];
  v_names text[];
  v_values jsonb[];
  v_deletes text[];
  v_delete_count bigint;
  v_value jsonb;
  v_size bigint;
  v_delta_documents bigint;
  v_delta_bytes bigint;
  v_created boolean;
  v_fault jsonb;
  v_tag text;
  v_now text;
  v_request_hash text;
  v_known_seq bigint;
  v_entry jsonb;
  v_entry_text text;
  v_time timestamptz;
  v_key text;
begin
  if v_is_new and current_setting('transaction_isolation') <> 'read committed' then
    return null;
  end if;
  -- Before the lock: the server reads its control file for the answer.
  v_now := loom_current_lineage();
  perform set_config('lock_timeout', p_options ->> 'lock_timeout_ms', true);
  select epoch, revision, audit_seq, audit_hash, documents, bytes
    into v_epoch, v_revision, v_seq, v_hash, v_documents, v_bytes
    from loom_state where state_key = p_state_key for no key update;
  if not found then
    raise exception 'state "%" does not exist', p_state_key using errcode = 'no_data_found';
  end if;
  v_until := clock_timestamp() + v_max_hold;
  select lineage, restored_seq into v_lineage, v_restored_seq from loom_lineage where state_key = p_state_key;
  if not found or v_lineage is distinct from v_now
    or (v_seen ->> 'epoch' = v_epoch and (v_seen ->> 'revision')::bigint > v_revision) then
    if loom_check_lineage(p_state_key, v_seen, p_commits #>> '{0,request_id}') then
      select epoch, revision, audit_seq, audit_hash into v_epoch, v_revision, v_seq, v_hash
        from loom_state where state_key = p_state_key;
    end if;
  end if;
  v_first_revision := v_revision;

  for v_commit in select value from jsonb_array_elements(p_commits) loop
    if v_deferred is not null then
      v_results := v_results || v_deferred;
      continue;
    end if;
    v_changes := v_commit -> 'changes';
    v_key := v_commit ->> 'idempotency_key';
    v_request_hash := null;

    -- Sent again because the first answer was lost on the way: answer what was done.
    select seq, entry into v_known_seq, v_entry from loom_audit
      where state_key = p_state_key and event_id = (v_commit ->> 'event_id')::uuid;
    if not found and v_key is not null then
      v_request_hash := encode(sha256(convert_to((v_commit ->> 'action') || ' ' || v_changes::text, 'UTF8')), 'hex');
      select seq, entry into v_known_seq, v_entry from loom_audit
        where state_key = p_state_key and idempotency_key = v_key;
    end if;
    if found then
      -- A restore may have undone the change, or have brought an entry that was never made here. Only the node that created an event id
      -- knows it, and sends it again for an answer that was lost, so the answer is still right.
      if loom_commit_receipt(v_entry) is null or (v_request_hash is not null and v_known_seq <= v_restored_seq) then
        v_results := v_results || (case when v_is_new then '{"status": "idempotency_key_outdated"}'::jsonb
                                        else '{"status": "idempotency_key_reused"}' end);
      elsif v_request_hash is null then
        v_results := v_results || loom_commit_receipt(v_entry);
      elsif v_entry ->> 'request_sha256' = v_request_hash then
        v_results := v_results || (loom_commit_receipt(v_entry) || '{"replayed": true}');
      else
        v_results := v_results || '{"status": "idempotency_key_reused"}'::jsonb;
      end if;
      continue;
    end if;

    if v_commit ? 'precondition' then
      if v_commit #>> '{precondition,document}' is null then
        v_tag := v_epoch || '.' || v_revision;
      else
        select v_epoch || '.' || d.revision into v_tag from loom_document d
          where d.state_key = p_state_key and d.name = v_commit #>> '{precondition,document}';
      end if;
      if not loom_precondition_holds(v_commit -> 'precondition', v_tag) then
        v_results := v_results || jsonb_build_object('status', 'precondition_failed', 'current_tag', v_tag);
        continue;
      end if;
    end if;

    -- Weigh the work before any of it.
    v_fault := null;
    v_delete_count := 0;
    select coalesce(array_agg(change), '{}'), coalesce(array_agg(old_bytes), '{}'),
           coalesce(sum(512 + case change ->> 'op' when 'merge' then pg_column_size(change) + coalesce(old_bytes, 0) + 1024 * least(128,
                                    case when pg_column_size(change) > 131072 then 128
                                         else cardinality(string_to_array(change::text, '{')) - 1 end)
                                  when 'put' then pg_column_size(change) + coalesce(old_bytes, 0) / 16
                                  else coalesce(old_bytes, 0) / 16 end), 0)
      into v_change_list, v_old_bytes, v_cost
      from (select change, (select d.bytes from loom_document d where d.state_key = p_state_key and d.name = change ->> 'name') as old_bytes
              from jsonb_array_elements(v_changes) as c (change)) c;
    if v_commit ->> 'action' = 'state.put' then
      select v_documents - count(o), v_cost + 512 * (v_documents - count(o)) + greatest(v_bytes - coalesce(sum(o), 0), 0) / 16
        into v_delete_count, v_cost from unnest(v_old_bytes) as u (o);
    end if;
    if v_delete_count > v_max_deletes then
      v_fault := jsonb_build_object('status', 'too_many_changes', 'deletes', v_delete_count);
    elsif v_cost > v_max_work then
      v_fault := jsonb_build_object('status', 'commit_too_costly', 'bytes', v_cost);
    elsif v_is_new and not v_timed and v_cost > v_max_untimed_work then
      v_deferred := '{"status": "deferred", "timed": true}';
    elsif v_is_new and v_work > 0 and (v_work + v_cost > v_max_batch_work or clock_timestamp() > v_until) then
      v_deferred := jsonb_build_object('status', 'deferred', 'timed', v_timed);
    end if;
    if v_deferred is not null then
      v_results := v_results || v_deferred;
      continue;
    end if;

    -- First find out everything, then change: a commit that fails half-way must leave nothing.
    v_recorded := '{}';
    v_names := '{}';
    v_values := '{}';
    v_deletes := '{}';
    v_created := false;
    v_delta_documents := 0;
    v_delta_bytes := 0;
    for i in 1 .. case when v_fault is null then cardinality(v_change_list) else 0 end loop
      v_change := v_change_list[i];
      if v_change ->> 'op' = 'delete' then
        if v_old_bytes[i] is null then
          -- Merging null into a state removes what is there, and is no error when nothing is (RFC 7396).
          continue when v_commit ->> 'action' = 'state.patch';
          v_fault := jsonb_build_object('status', 'document_not_found', 'name', v_change ->> 'name');
          exit;
        end if;
        v_deletes := v_deletes || (v_change ->> 'name');
        v_recorded := v_recorded || v_change;
        continue;
      end if;
      v_value := v_change -> 'value';
      if v_change ->> 'op' = 'merge' then
        v_value := loom_merge(
          (select d.value from loom_document d where d.state_key = p_state_key and d.name = v_change ->> 'name'), v_value,
          case when v_work > 0 then v_until else v_until - v_max_hold + v_max_merge end);
        if v_value is null then
          if v_is_new and v_work > 0 then
            v_deferred := jsonb_build_object('status', 'deferred', 'timed', v_timed);
          else
            v_fault := jsonb_build_object('status', 'commit_too_costly', 'bytes', v_cost);
          end if;
          exit;
        end if;
        v_size := octet_length(v_value::text);
        if v_size > v_max_document_bytes then
          v_fault := jsonb_build_object('status', 'document_too_large', 'name', v_change ->> 'name', 'bytes', v_size);
          exit;
        end if;
      end if;
      v_names := v_names || (v_change ->> 'name');
      v_values := v_values || v_value;
      if v_old_bytes[i] is null then
        v_created := true;
        v_delta_documents := v_delta_documents + 1;
        v_recorded := v_recorded || (v_change || '{"created": true}');
      else
        v_delta_bytes := v_delta_bytes - v_old_bytes[i];
        v_recorded := v_recorded || v_change;
      end if;
    end loop;
    if v_deferred is not null then
      v_results := v_results || v_deferred;
      continue;
    end if;
    v_work := v_work + v_cost;

    if v_fault is null then
      if v_commit ->> 'action' = 'state.put' then
        select coalesce(array_agg(d.name order by d.name), '{}') into v_deletes from loom_document d
          where d.state_key = p_state_key and not exists (select from unnest(v_names) as u (name) where u.name = d.name);
        v_recorded := v_recorded || array(
          select jsonb_build_object('op', 'delete', 'name', n) from unnest(v_deletes) with ordinality as u (n, i) order by i);
        -- The counter of the state may be wrong, if someone has inserted documents by hand.
        if cardinality(v_deletes) > v_max_deletes then
          v_fault := jsonb_build_object('status', 'too_many_changes', 'deletes', cardinality(v_deletes));
        end if;
      end if;
      v_time := clock_timestamp();
      v_entry := jsonb_build_object(
        'seq', v_seq + 1,
        'event_id', v_commit -> 'event_id',
        'recorded_at', to_char(v_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
        'action', v_commit -> 'action',
        'actor', v_commit -> 'actor',
        'request_id', v_commit -> 'request_id',
        'revision', v_revision + 1,
        'epoch', v_epoch,
        'changes', to_jsonb(v_recorded));
      if v_key is not null then
        v_entry := v_entry || jsonb_build_object('idempotency_key', v_key, 'request_sha256', v_request_hash);
      end if;
      -- The finished entry must fit in a backup: escapes, deletions and all.
      v_entry_text := v_entry::text;
      if v_fault is null and octet_length(v_entry_text) > v_max_entry_bytes then
        v_fault := jsonb_build_object('status', 'audit_entry_too_large', 'bytes', octet_length(v_entry_text));
      end if;
    end if;
    if v_fault is not null then
      v_results := v_results || (case
        when v_is_new or v_fault ->> 'status' not in ('commit_too_costly', 'audit_entry_too_large') then v_fault
        else jsonb_build_object('status', 'too_many_changes', 'deletes', v_delete_count) end);
      continue;
    end if;

    v_revision := v_revision + 1;
    v_seq := v_seq + 1;
    if v_deletes <> '{}' then
      with gone as (
        delete from loom_document where state_key = p_state_key and name = any (v_deletes) returning bytes
      )
      select v_delta_documents - count(*), v_delta_bytes - coalesce(sum(bytes), 0)
        into v_delta_documents, v_delta_bytes from gone;
    end if;
    if v_names <> '{}' then
      with written as (
        insert into loom_document as d (state_key, name, value, revision, updated_at)
        select p_state_key, u.name, u.value, v_revision, v_time from unnest(v_names, v_values) as u (name, value)
        on conflict (state_key, name) do update
          set value = excluded.value, revision = excluded.revision, updated_at = excluded.updated_at
        returning d.bytes
      )
      select v_delta_bytes + sum(bytes) into v_delta_bytes from written;
    end if;
    -- As loom_chain_hash does, from the text that is already there.
    v_hash := sha256(v_hash || convert_to(v_entry_text, 'UTF8'));
    insert into loom_audit (state_key, seq, event_id, idempotency_key, recorded_at, action, entry, hash)
    values (p_state_key, v_seq, (v_commit ->> 'event_id')::uuid, v_key, v_time, v_commit ->> 'action', v_entry, v_hash);

    v_documents := v_documents + v_delta_documents;
    v_bytes := v_bytes + v_delta_bytes;
    v_results := v_results || jsonb_build_object('status', 'committed', 'seq', v_seq, 'revision', v_revision,
      'epoch', v_epoch, 'event_id', v_commit -> 'event_id', 'created', v_created);
  end loop;

  if v_revision > v_first_revision then
    update loom_state
      set revision = v_revision, audit_seq = v_seq, audit_hash = v_hash, documents = v_documents, bytes = v_bytes,
          updated_at = v_time
      where state_key = p_state_key;
  end if;
  return to_jsonb(v_results);
end
$$;

-- Grants the roles that serve with loom_state and loom_commit the same rights on what this migration adds. So the rights of a node of an
-- earlier version suffice.
create function loom_share_rights() returns void language plpgsql as $$
declare
  v_right record;
  v_function regprocedure;
begin
  for v_right in
    select acl.privilege_type as name, case when acl.grantee = 0 then 'public' else acl.grantee::regrole::text end as grantee
      from pg_class c, aclexplode(c.relacl) acl
     where c.oid = 'loom_state'::regclass and acl.grantee <> c.relowner
  loop
    execute format('grant %s on loom_lineage to %s', v_right.name, v_right.grantee);
  end loop;
  for v_right in
    select case when acl.grantee = 0 then 'public' else acl.grantee::regrole::text end as grantee
      from pg_proc p, aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) acl
     where p.oid = 'loom_commit(text, jsonb, jsonb)'::regprocedure and acl.grantee <> p.proowner
  loop
    foreach v_function in array array['loom_current_lineage()', 'loom_check_lineage(text, jsonb, text)', 'loom_merge(jsonb, jsonb, timestamptz)',
                                      'loom_audit_note_restore()', 'loom_share_rights()']::regprocedure[]
    loop
      execute format('grant execute on function %s to %s', v_function, v_right.grantee);
    end loop;
  end loop;
end
$$;

select loom_share_rights();
