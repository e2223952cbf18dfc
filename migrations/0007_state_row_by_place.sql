-- loom: compatible
-- Why: a commit finds the row of its state by its place. While any transaction is open, PostgreSQL keeps every later version of that row.
-- Locks: none that matter; a changed function only makes sessions compile it again.

-- Until the migration ends. PostgreSQL searches pg_catalog first unless the path names it, and temporary tables last if it does.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- As before, but the node sends where its last commit left the row of the state (state_at), and the row is changed where it was locked. By
-- its key, PostgreSQL finds the row only after all versions that it still keeps for some other transaction, such as a long backup or
-- restore: 1.9 ms a minute after that has begun, twice for each batch. Another node's commit moves the row, and so does VACUUM FULL. Then
-- it is found by its key.
--
-- p_options also has state_at from nodes of schema version 7: null, or a place that PostgreSQL gave. They get {results, state_at}, with the
-- answers in results. A place that has become another row's is none: state_key is compared, too.
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
  -- The row of the state as it was locked, and where it is.
  v_row record;
  v_at tid := (p_options ->> 'state_at')::tid;
  v_moved_to tid;
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
  if v_at is not null then
    select s as state, s.ctid as at into v_row from loom_state s where s.ctid = v_at and s.state_key = p_state_key for no key update;
  end if;
  if v_at is null or not found then
    select s as state, s.ctid as at into v_row from loom_state s where s.state_key = p_state_key for no key update;
    if not found then
      raise exception 'state "%" does not exist', p_state_key using errcode = 'no_data_found';
    end if;
  end if;
  v_state := v_row.state;
  v_at := v_row.at;
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
      select s as state, s.ctid as at into v_row from loom_state s where s.state_key = p_state_key;
      v_state := v_row.state;
      v_at := v_row.at;
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
        where ctid = v_at and state_key = p_state_key and v_commit is null
        returning ctid into v_moved_to;
      if v_commit is null then
        if not found then
          raise exception 'the row of the state "%" has moved although it is locked', p_state_key;
        end if;
        v_at := v_moved_to;
        exit;
      end if;
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
  if p_options ? 'state_at' then
    return jsonb_build_object('results', to_jsonb(v_results), 'state_at', v_at);
  end if;
  return to_jsonb(v_results);
end
$$;
