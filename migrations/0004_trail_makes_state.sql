-- loom: compatible
-- Why: the trail alone makes the state. Each change in an entry has the digest of its result, and loom_change is an index of all changes.
-- Locks: loom_audit for an instant, against writers only, after the index of the entries so far has been made without a lock. A restore
-- in its last step delays it, and the commits after it.

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

-- The changes of documents in an entry, as rows of loom_change. If a name occurs twice, the last change counts. Elements of another
-- form than LOOM's are skipped: a backup made by hand may have them. (PostgreSQL takes ten times as long to match '{64}'.)
create function loom_entry_changes(p_entry jsonb) returns table (name text, revision bigint, op text, sha256 bytea)
language sql immutable parallel safe as $$
  select distinct on (1) change ->> 'name',
         case when jsonb_typeof(change -> 'revision') = 'number' and (change ->> 'revision') collate "C" ~ '^[0-9]{1,16}$'
                then (change ->> 'revision')::bigint
              when jsonb_typeof(p_entry -> 'revision') = 'number' and (p_entry ->> 'revision') collate "C" ~ '^[0-9]{1,16}$'
                then (p_entry ->> 'revision')::bigint
              else 0 end,
         change ->> 'op',
         case when change ->> 'op' = 'delete' then null
              when length(change ->> 'sha256') = 64 and (change ->> 'sha256') collate "C" !~ '[^0-9a-f]' then decode(change ->> 'sha256', 'hex')
              when change ->> 'op' = 'put' then loom_value_sha256(change -> 'value') end
    from jsonb_array_elements(case when jsonb_typeof(p_entry -> 'changes') = 'array' then p_entry -> 'changes' else '[]' end)
         with ordinality as element (change, place)
   where jsonb_typeof(change -> 'name') = 'string' and octet_length(change ->> 'name') between 1 and 512
     and change ->> 'op' in ('put', 'merge', 'delete')
   order by 1, place desc
$$;

-- Whether an entry is of a restore or undo that recorded its changes of documents in the entries that follow it, if any.
create function loom_entry_is_told(p_entry jsonb) returns boolean language sql immutable parallel safe as $$
  select coalesce(p_entry ->> 'action', '') not in ('restore', 'undo')
    or coalesce(jsonb_typeof(p_entry -> (p_entry ->> 'action') -> 'recorded_changes') = 'number', false)
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
-- so it is made again. Among adopted entries, at most the last causes that.
create or replace function loom_audit_note_restore() returns trigger language plpgsql as $$
begin
  insert into loom_lineage as l (state_key, restored_seq) values (new.state_key, new.seq)
  on conflict (state_key) do update set restored_seq = excluded.restored_seq;
  if not loom_entry_is_told(new.entry) and coalesce(current_setting('loom.changes', true), '') <> 'kept'
    and new.seq = (select max(seq) from loom_audit where state_key = new.state_key) then
    perform loom_rebuild_changes(new.state_key);
  end if;
  return null;
end
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
set row_security = off set loom.changes = 'kept' as $$
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
      v_change := v_change || jsonb_build_object('sha256', encode(loom_value_sha256(v_value), 'hex'));
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

    insert into loom_change (state_key, name, seq, revision, op, sha256)
    select p_state_key, c.name, v_seq, c.revision, c.op, c.sha256 from loom_entry_changes(v_entry) c;

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
      'loom_current_lineage()', 'loom_check_lineage(text, jsonb, text)', 'loom_merge(jsonb, jsonb, timestamptz)', 'loom_audit_note_restore()',
      'loom_audit_note_changes()',
      'loom_share_rights()', 'loom_entry_changes(jsonb)', 'loom_entry_is_told(jsonb)', 'loom_index_changes(text, bigint)',
      'loom_rebuild_changes(text)']
    loop
      execute format('grant execute on function %s to %s', v_object, v_right.grantee);
    end loop;
  end loop;
end
$$;

select loom_share_rights();

-- The index of the entries so far. Commits go on meanwhile: only what they appended is left for the end, under the lock. A restore may
-- have replaced entries, too; then the index of that state is made again.
create temporary table loom_indexed on commit drop as select state_key, audit_seq, audit_hash from loom_state;

select loom_index_changes(state_key, 0) from loom_indexed;

lock table loom_audit in share row exclusive mode;

create trigger loom_audit_changed after insert on loom_audit
  for each row when (coalesce(current_setting('loom.changes', true), '') <> 'kept') execute function loom_audit_note_changes();

create temporary table loom_left on commit drop as
select s.state_key, case when exists (
         select from loom_audit a where a.state_key = i.state_key and a.seq = i.audit_seq and a.hash = i.audit_hash
       ) then i.audit_seq else 0 end as after
  from loom_state s left join loom_indexed i using (state_key);

delete from loom_change c using loom_left l where c.state_key = l.state_key and c.seq > l.after;

delete from loom_change c where not exists (select from loom_state s where s.state_key = c.state_key);

select loom_index_changes(state_key, after) from loom_left;

analyze loom_change;
