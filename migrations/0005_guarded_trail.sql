-- loom: compatible
-- Why: entries leave the trail only through a function of the owner, writers have a search_path of their own, documents stay on their page.
-- Locks: none that matter; every table is new, and a changed function only makes sessions compile it again.

-- So the role that serves needs neither DELETE nor UPDATE on loom_audit, and nothing can shadow what the functions call. Nodes of version 4
-- go on serving, and go on removing entries with the right DELETE. Revoke it when the last of them is gone: see docs/roles.sql.

-- Until the migration ends. PostgreSQL searches pg_catalog first unless the path names it, and temporary tables last if it does.
select set_config('search_path', quote_ident(current_schema()) || ', pg_temp', true);

-- One row for each removal of entries from the trail of a state. Only the owner of the tables writes here, so no other role can remove the
-- trace of what it has done.
create table loom_removal (
  state_key text collate "C" not null,
  removed_at timestamptz not null,
  -- The role of the session, and what it removed: the entries after this seq, up to the head.
  role text not null,
  after_seq bigint not null,
  entries bigint not null,
  head_seq bigint not null,
  head_hash bytea not null,
  primary key (state_key, removed_at)
);

-- Removes the entries after p_after from the trail of a state, as a truncating restore does, or all entries of a scratch state that is
-- being dropped. It runs as its owner, and checks its caller: the caller may append entries, the newest undo record keeps each entry
-- that goes, and, when the transaction commits, an entry of a restore or undo names the head that is gone (loom_removal_check_named).
-- Answers the number of entries.
--
-- A node of an early version stored a scratch state under its plain name. Its row says so, which the serving role may edit. So only a
-- member of the owner may remove its entries.
create function loom_remove_entries(p_state_key text, p_after bigint) returns bigint
language plpgsql security definer set search_path from current as $$
declare
  v_state loom_state;
  v_entries bigint;
  -- The revision of the newest undo record with entries: that of the operation which calls.
  v_record bigint;
  -- The first character of the stored key of a scratch state, which no key of another state has.
  v_is_scratch boolean := starts_with(p_state_key, chr(31));
begin
  if not has_table_privilege(session_user, 'loom_audit', 'insert') then
    raise exception 'the role % may not remove audit entries', session_user using errcode = 'insufficient_privilege';
  end if;
  select * into v_state from loom_state where state_key = p_state_key for no key update;
  if not found and not v_is_scratch then
    raise exception 'state "%" does not exist', p_state_key using errcode = 'no_data_found';
  end if;
  v_is_scratch := v_is_scratch
    or (v_state.scratch and pg_has_role(session_user, (select relowner from pg_class where oid = 'loom_audit'::regclass), 'member'));
  -- A subquery looks each entry up by the key of the table. For a join, PostgreSQL may choose a plan whose time grows with the square of
  -- their number, because it does not know yet how many were kept just now.
  select max(revision) into v_record from loom_snapshot_audit where state_key = p_state_key;
  if not v_is_scratch and exists (
    select from loom_audit a
     where a.state_key = p_state_key and a.seq > p_after
       and (select s.hash = a.hash and s.entry = a.entry from loom_snapshot_audit s
             where s.state_key = p_state_key and s.revision = v_record and s.seq = a.seq) is not true)
  then
    raise exception 'the newest undo record does not keep every entry after % of the state "%"', p_after, p_state_key
      using errcode = 'insufficient_privilege', hint = 'Only a restore removes audit entries, and it keeps them first.';
  end if;
  perform set_config('loom.audit_rewrite', 'restore', true);
  delete from loom_audit where state_key = p_state_key and seq > p_after;
  get diagnostics v_entries = row_count;
  perform set_config('loom.audit_rewrite', '', true);
  if not v_is_scratch then
    insert into loom_removal (state_key, removed_at, role, after_seq, entries, head_seq, head_hash)
    values (p_state_key, clock_timestamp(), session_user, p_after, v_entries, v_state.audit_seq, v_state.audit_hash);
  end if;
  return v_entries;
end
$$;

-- Refuses to commit a removal that no entry of a restore or undo names.
create function loom_removal_check_named() returns trigger language plpgsql security definer set search_path from current as $$
begin
  if not exists (
    select from loom_audit a
     where a.state_key = new.state_key and a.seq > new.after_seq and a.action in ('restore', 'undo')
       and a.entry #>> array[a.action, 'previous_head', 'hash'] = encode(new.head_hash, 'hex'))
  then
    raise exception 'no audit entry names the removal of the entries after % of the state "%"', new.after_seq, new.state_key
      using errcode = 'insufficient_privilege', hint = 'Only a restore removes audit entries, and its own entry names them.';
  end if;
  return null;
end
$$;

create constraint trigger loom_removal_named after insert on loom_removal
  deferrable initially deferred for each row execute function loom_removal_check_named();

-- As before, but PostgreSQL may expand the changes of any entry before it looks at the seqs. So entries of any form must not fail.
create or replace function loom_wrong_merges(p_state_key text, p_untold bigint[], p_derived boolean, p_part int, p_parts int)
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
                    from loom_audit a cross join lateral jsonb_array_elements(
                     case when jsonb_typeof(a.entry -> 'changes') = 'array' then a.entry -> 'changes' end) e (change)
                   where a.state_key = p_state_key and a.seq in (select n.seq from needed n)) v using (name, seq)) folded
   where is_told and sha256 is distinct from loom_value_sha256(document)
   group by name, era, run;
end
$$;

-- What these call, triggers included, runs with the same path.
alter function loom_commit(text, jsonb, jsonb) set search_path from current;
alter function loom_check_lineage(text, jsonb, text) set search_path from current;
alter function loom_rebuild_changes(text) set search_path from current;
alter function loom_audit_note_restore() set search_path from current;
alter function loom_audit_note_changes() set search_path from current;
alter function loom_audit_refuse_rewrite() set search_path from current;

-- Grants the roles that serve with loom_state and loom_commit the same rights on what later migrations added. So the rights of a node of
-- an earlier version suffice. Of the removals, they may only read.
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
    if v_right.name = 'SELECT' then
      execute format('grant select on loom_removal to %s', v_right.grantee);
    end if;
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
      'loom_wrong_merges(text, bigint[], boolean, integer, integer)', 'loom_remove_entries(text, bigint)',
      'loom_removal_check_named()']
    loop
      execute format('grant execute on function %s to %s', v_object, v_right.grantee);
    end loop;
  end loop;
end
$$;

select loom_share_rights();

-- Leaves room on each new page for a change of one of its documents. Without it, the first changes of a large state move documents to other
-- pages, and add to the index each time.
alter table loom_document set (fillfactor = 85);
