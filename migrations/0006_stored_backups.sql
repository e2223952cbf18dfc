-- loom: compatible
-- Why: nodes take backups into a store by a schedule, and prove them. The runs and the stored backups are rows, the same for every node.
-- Locks: none; the tables are new, and sessions only compile a changed function again.

-- One row for each attempt of a run. A slot is a time of the schedule, or the time of a request: the node that inserts its first attempt runs
-- it. The other columns are those of src/domain/backup-run.ts. The rows are about the store of backups, not about the state: a restore leaves
-- them as they are.
create table loom_backup_run (
  state_key text collate "C" not null,
  kind text not null check (kind in ('scheduled', 'manual', 'drill')),
  slot timestamptz not null,
  attempt int not null check (attempt >= 1),
  id uuid not null,
  -- Orders the runs by their start. Times would not: a clock may go back.
  ordinal bigint not null generated always as identity,
  node text not null,
  -- Until this time, a run that is running belongs to its node.
  lease_until timestamptz not null,
  -- When the next attempt at the slot is due after this one has failed. Null if there is none to come.
  retry_at timestamptz,
  outcome text not null check (outcome in ('running', 'proven', 'verified', 'failed', 'abandoned')),
  started_at timestamptz not null,
  ended_at timestamptz,
  -- Why the run failed.
  code text,
  detail text,
  -- The stored backup that the run wrote, or, for a drill, proved. Only a row of another kind than a drill owns a stored backup. All columns
  -- that follow, except restore_seconds, describe the backup that the row owns.
  name text collate "C",
  restore_seconds double precision,
  taken_at timestamptz,
  revision bigint,
  encrypted boolean,
  -- The store that has it: the id in an object of the store. So nodes notice that a folder was replaced or is not mounted.
  store_id uuid,
  -- Until this time, a drill reads it.
  drill_until timestamptz,
  -- Null until the store has all of it.
  bytes bigint,
  sha256 bytea,
  manifest_sha256 bytea,
  verified_at timestamptz,
  -- When it was last proven, by this run or by a drill. Null again when a later drill has failed.
  proven_at timestamptz,
  -- Why its last proof failed.
  fault_code text,
  fault_detail text,
  fault_at timestamptz,
  deletion_begun_at timestamptz,
  deleted_at timestamptz,
  primary key (state_key, kind, slot, attempt),
  check ((outcome = 'running') = (ended_at is null)),
  check (kind <> 'drill' or proven_at is null)
);

create unique index loom_backup_run_id on loom_backup_run (state_key, id);

-- Also lists the runs, newest first.
create unique index loom_backup_run_ordinal on loom_backup_run (state_key, ordinal);

create unique index loom_backup_run_name on loom_backup_run (state_key, name) where kind <> 'drill' and name is not null;

-- A second success of a slot would be a fault of the nodes.
create unique index loom_backup_run_proven on loom_backup_run (state_key, kind, slot) where outcome = 'proven';

-- Finds the runs to take over or to attempt again. The nodes look every few seconds.
create index loom_backup_run_unfinished on loom_backup_run (state_key, slot) where outcome = 'running' or retry_at is not null;

-- Lists the stored backups, newest first.
create index loom_backup_run_stored on loom_backup_run (state_key, ordinal) where kind <> 'drill' and name is not null and deleted_at is null;

-- Counts the rows that were pruned from loom_backup_run, so that the totals of the metrics never go back.
create table loom_backup_run_total (
  state_key text collate "C" not null,
  kind text not null,
  outcome text not null,
  runs bigint not null,
  primary key (state_key, kind, outcome)
);

-- What this database claims in the store of its backups. Two databases must not delete each other's backups, and a copy of a database has the
-- catalogue of its original. So a database that is new to the store, or whose server has started since, claims the store with an object, and
-- deletes earlier backups only after no other database has removed that object for a while. See docs/stored-backups.md.
create table loom_backup_claim (
  state_key text collate "C" primary key,
  -- Names the object in the store.
  id uuid not null,
  -- Claims of this database before that one. The store may still have their objects.
  earlier uuid[] not null default '{}',
  store_id uuid not null,
  -- The copy of the database and the start of its server that made the claim. See loom_current_lineage.
  lineage text not null,
  server_started_at timestamptz not null,
  -- Backups of runs after this one were written under the claim. The earlier ones may also be those of another database.
  upto_ordinal bigint not null,
  -- How long the object has to be in the store.
  wait_ms bigint not null,
  claimed_at timestamptz not null,
  -- Since when the store has the object.
  placed_at timestamptz,
  -- Since when the earlier backups belong to this database alone.
  settled_at timestamptz,
  -- When another database last showed that it uses the store.
  shared_at timestamptz
);

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
    foreach v_object in array array['loom_lineage', 'loom_change', 'loom_backup_run', 'loom_backup_run_total',
      'loom_backup_claim'] loop
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
