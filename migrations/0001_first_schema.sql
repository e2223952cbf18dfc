-- loom: compatible
-- Why: the first schema: the ledger, the keyed row of each state, its documents, its audit chain, and the one way to change them.
-- Locks: none that matter; every object is new.

create table loom_meta (
  key text primary key,
  value jsonb not null,
  updated_at timestamptz not null default now()
);

insert into loom_meta (key, value) values
  ('schema_version', '0'),
  ('schema_compatible_from', '1'),
  ('migrations', '[]'),
  ('instance_id', to_jsonb(gen_random_uuid()));

-- One row a state. A commit locks it, so it orders commits; the head of the audit chain lives in it.
-- Rewritten by every batch: half of each page is left free, so that the new version stays on its page (HOT).
create table loom_state (
  state_key text collate "C" primary key check (octet_length(state_key) between 1 and 128),
  epoch text not null,
  revision bigint not null default 0 check (revision >= 0),
  documents bigint not null default 0 check (documents >= 0),
  bytes bigint not null default 0 check (bytes >= 0),
  audit_seq bigint not null default 0 check (audit_seq >= 0),
  audit_hash bytea not null default decode(repeat('00', 32), 'hex') check (octet_length(audit_hash) = 32),
  scratch boolean not null default false,
  last_backup_at timestamptz,
  last_restore_at timestamptz,
  updated_at timestamptz not null default now()
) with (fillfactor = 50);

-- SHA-256 of a value's canonical text. convert_to is only "stable", for the sake of conversions that can be redefined;
-- from UTF8, which LOOM requires of the database, to UTF8 there is none, so this is truly immutable.
create function loom_value_sha256(value jsonb) returns bytea language sql immutable strict parallel safe as $$
  select sha256(convert_to(value::text, 'UTF8'))
$$;

-- One row a document. Digest and size are derived by PostgreSQL, so that they cannot contradict the value.
create table loom_document (
  state_key text collate "C" not null,
  name text collate "C" not null check (octet_length(name) between 1 and 512),
  value jsonb not null,
  revision bigint not null,
  sha256 bytea not null generated always as (loom_value_sha256(value)) stored,
  bytes integer not null generated always as (octet_length(value::text)) stored,
  updated_at timestamptz not null default now(),
  primary key (state_key, name)
);

create table loom_audit (
  state_key text collate "C" not null,
  seq bigint not null check (seq > 0),
  event_id uuid not null,
  idempotency_key text collate "C",
  recorded_at timestamptz not null,
  action text not null,
  entry jsonb not null,
  hash bytea not null check (octet_length(hash) = 32),
  primary key (state_key, seq)
);

create unique index loom_audit_event_id on loom_audit (state_key, event_id);
create unique index loom_audit_idempotency_key on loom_audit (state_key, idempotency_key) where idempotency_key is not null;

-- History is written once. Only a restore that says so in its own transaction may replace entries: a guard against
-- mistakes, not against a superuser, whose edits the chain shows.
create function loom_audit_refuse_rewrite() returns trigger language plpgsql as $$
begin
  if coalesce(current_setting('loom.audit_rewrite', true), '') <> 'restore' then
    raise exception 'loom_audit is append-only: % refused', lower(tg_op)
      using errcode = 'insufficient_privilege', hint = 'Audit entries are only ever replaced by a restore.';
  end if;
  return null;
end
$$;

create trigger loom_audit_append_only before update or delete or truncate on loom_audit
  for each statement execute function loom_audit_refuse_rewrite();

-- The hash of an entry: sha256(previous hash || utf8(entry::text)). The text is PostgreSQL's own of the jsonb.
create function loom_chain_hash(previous_hash bytea, entry jsonb) returns bytea
language sql immutable strict parallel safe as $$
  select sha256(previous_hash || convert_to(entry::text, 'UTF8'))
$$;

-- A JSON merge patch, RFC 7396 section 2. An absent target is SQL null.
create function loom_merge_patch(target jsonb, patch jsonb) returns jsonb
language plpgsql immutable parallel safe as $$
declare
  v_changed jsonb;
  v_removed text[];
begin
  if jsonb_typeof(patch) <> 'object' then
    return patch;
  end if;
  if target is null or jsonb_typeof(target) <> 'object' then
    target := '{}';
  end if;
  select coalesce(jsonb_object_agg(p.key, case
             when jsonb_typeof(p.value) = 'object' then loom_merge_patch(target -> p.key, p.value)
             else p.value
           end) filter (where jsonb_typeof(p.value) <> 'null'), '{}'),
         array_agg(p.key) filter (where jsonb_typeof(p.value) = 'null')
    into v_changed, v_removed
    from jsonb_each(patch) p;
  if v_removed is not null then
    target := target - v_removed;
  end if;
  return target || v_changed;
end
$$;

-- RFC 9110 section 13.1: whether a precondition holds for a target whose entity tag is p_tag (null: it does not exist).
create function loom_precondition_holds(p_precondition jsonb, p_tag text) returns boolean
language sql immutable parallel safe as $$
  select case
      when p_precondition -> 'if_match' is null then true
      when p_tag is null then false
      when p_precondition -> 'if_match' = '"*"' then true
      else p_precondition -> 'if_match' ? p_tag
    end
    and case
      when p_precondition -> 'if_none_match' is null or p_tag is null then true
      when p_precondition -> 'if_none_match' = '"*"' then false
      else not p_precondition -> 'if_none_match' ? p_tag
    end
$$;

-- What a commit answered, from its entry.
create function loom_commit_receipt(p_entry jsonb) returns jsonb language sql immutable parallel safe as $$
  select jsonb_build_object('status', 'committed', 'seq', p_entry -> 'seq', 'revision', p_entry -> 'revision',
    'epoch', p_entry -> 'epoch', 'event_id', p_entry -> 'event_id',
    'created', coalesce(p_entry -> 'changes' @> '[{"created": true}]', false))
$$;

-- Makes a batch of commits in one transaction, in order, each with exactly one audit entry. One that cannot be made is
-- reported and the rest go on: nothing of it is left, because everything that can fail is found out before it changes.
--
-- p_commits: [{event_id, action, actor, request_id, idempotency_key?, precondition?: {document, if_match?, if_none_match?},
--              changes: [{op: put | merge | delete, name, value?}, ...]}, ...]; names differ within one commit.
-- p_options: {max_document_bytes, max_deletes, lock_timeout_ms}
-- Answers, for each commit in order: {status: committed, seq, revision, epoch, event_id, created, replayed?}, or {status, ...} with
-- status precondition_failed (current_tag), document_not_found (name), document_too_large (name, bytes), too_many_changes (deletes) or
-- idempotency_key_reused.
create function loom_commit(p_state_key text, p_commits jsonb, p_options jsonb) returns jsonb
language plpgsql as $$
declare
  v_max_document_bytes constant bigint := (p_options ->> 'max_document_bytes')::bigint;
  v_max_deletes constant bigint := (p_options ->> 'max_deletes')::bigint;
  v_epoch text;
  v_revision bigint;
  v_seq bigint;
  v_hash bytea;
  v_documents bigint;
  v_bytes bigint;
  v_first_revision bigint;
  v_results jsonb[] := '{}';
  v_result jsonb;
  v_commit jsonb;
  v_change jsonb;
  v_changes jsonb;
  v_recorded jsonb[];
  v_names text[];
  v_values jsonb[];
  v_deletes text[];
  v_known record;
  v_value jsonb;
  v_size bigint;
  v_delta_documents bigint;
  v_delta_bytes bigint;
  v_created boolean;
  v_fault jsonb;
  v_tag text;
  v_request_hash text;
  v_entry jsonb;
  v_time timestamptz;
  v_key text;
begin
  perform set_config('lock_timeout', p_options ->> 'lock_timeout_ms', true);
  select epoch, revision, audit_seq, audit_hash, documents, bytes
    into v_epoch, v_revision, v_seq, v_hash, v_documents, v_bytes
    from loom_state where state_key = p_state_key for no key update;
  if not found then
    raise exception 'state "%" does not exist', p_state_key using errcode = 'no_data_found';
  end if;
  v_first_revision := v_revision;

  for v_commit in select value from jsonb_array_elements(p_commits) loop
    v_changes := v_commit -> 'changes';
    v_key := v_commit ->> 'idempotency_key';
    v_request_hash := null;

    -- Sent again because the first answer was lost on the way: answer what was done.
    select entry into v_entry from loom_audit
      where state_key = p_state_key and event_id = (v_commit ->> 'event_id')::uuid;
    if found then
      v_results := v_results || (loom_commit_receipt(v_entry));
      continue;
    end if;

    if v_key is not null then
      v_request_hash := encode(sha256(convert_to((v_commit ->> 'action') || ' ' || v_changes::text, 'UTF8')), 'hex');
      select entry into v_entry from loom_audit where state_key = p_state_key and idempotency_key = v_key;
      if found then
        v_results := v_results || (case
          when v_entry ->> 'request_sha256' = v_request_hash then loom_commit_receipt(v_entry) || '{"replayed": true}'
          else '{"status": "idempotency_key_reused"}' end);
        continue;
      end if;
    end if;

    v_fault := null;
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

    -- First find out everything, then change: a commit that fails half-way must leave nothing.
    v_recorded := '{}';
    v_names := '{}';
    v_values := '{}';
    v_deletes := '{}';
    v_created := false;
    v_delta_documents := 0;
    v_delta_bytes := 0;
    for v_change in select value from jsonb_array_elements(v_changes) loop
      if v_change ->> 'op' = 'merge' then
        select d.bytes, d.value into v_known from loom_document d
          where d.state_key = p_state_key and d.name = v_change ->> 'name';
      else
        select d.bytes, null::jsonb as value into v_known from loom_document d
          where d.state_key = p_state_key and d.name = v_change ->> 'name';
      end if;
      if v_change ->> 'op' = 'delete' then
        if not found then
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
        v_value := loom_merge_patch(v_known.value, v_value);
        v_size := octet_length(v_value::text);
        if v_size > v_max_document_bytes then
          v_fault := jsonb_build_object('status', 'document_too_large', 'name', v_change ->> 'name', 'bytes', v_size);
          exit;
        end if;
      end if;
      v_names := v_names || (v_change ->> 'name');
      v_values := v_values || v_value;
      if v_known.bytes is null then
        v_created := true;
        v_delta_documents := v_delta_documents + 1;
        v_recorded := v_recorded || (v_change || '{"created": true}');
      else
        v_delta_bytes := v_delta_bytes - v_known.bytes;
        v_recorded := v_recorded || v_change;
      end if;
    end loop;
    if v_fault is null and v_commit ->> 'action' = 'state.put' then
      select coalesce(array_agg(d.name order by d.name), '{}') into v_deletes from loom_document d
        where d.state_key = p_state_key and d.name <> all (v_names);
      v_recorded := v_recorded || array(
        select jsonb_build_object('op', 'delete', 'name', n) from unnest(v_deletes) with ordinality as u (n, i) order by i);
      if cardinality(v_deletes) > v_max_deletes then
        v_fault := jsonb_build_object('status', 'too_many_changes', 'deletes', cardinality(v_deletes));
      end if;
    end if;
    if v_fault is not null then
      v_results := v_results || v_fault;
      continue;
    end if;

    v_revision := v_revision + 1;
    v_seq := v_seq + 1;
    v_time := clock_timestamp();

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

    v_entry := jsonb_build_object(
      'seq', v_seq,
      'event_id', v_commit -> 'event_id',
      'recorded_at', to_char(v_time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
      'action', v_commit -> 'action',
      'actor', v_commit -> 'actor',
      'request_id', v_commit -> 'request_id',
      'revision', v_revision,
      'epoch', v_epoch,
      'changes', to_jsonb(v_recorded));
    if v_key is not null then
      v_entry := v_entry || jsonb_build_object('idempotency_key', v_key, 'request_sha256', v_request_hash);
    end if;
    v_hash := loom_chain_hash(v_hash, v_entry);
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
