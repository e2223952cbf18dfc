-- Makes three roles for the database of LOOM, each with the least rights that its work needs:
--
--   loom_owner  owns LOOM's tables and functions, and runs the migrations
--   loom_serve  serves: it changes neither the schema nor past audit entries, and removes entries only as a restore does
--   loom_read   reads everything: for pg_dump, docs/verify-chain.sql and replicas of the rows
--
-- Run it as a superuser in the database of LOOM. For other names, replace them in this file:
--
--   psql -d loom -f docs/roles.sql
--
-- In a new database, run it, then "node dist/main.js migrate" as loom_owner, then this file again. In a database that has LOOM's tables,
-- run it once, while no backup or restore is running. Nodes that already serve lose their rights, unless their role is a member of
-- loom_owner: see "Adopting the roles" in operations.md. Then let the nodes connect as loom_serve, with LOOM_MIGRATE=manual. The file
-- can be repeated. It holds back requests for less than a second. Give each role a password with \password.
begin;

do $$
declare
  v_name text;
  v_object record;
  v_until timestamptz;
  v_before text := current_setting('lock_timeout');
begin
  foreach v_name in array array['loom_owner', 'loom_serve', 'loom_read'] loop
    if not exists (select from pg_roles where rolname = v_name) then
      execute format('create role %I login', v_name);
    end if;
    execute format('grant connect on database %I to %I', current_database(), v_name);
    -- Not "$user": a schema of the role's own name would be searched first.
    execute format('alter role %I in database %I set search_path = %I', v_name, current_database(), current_schema());
  end loop;
  execute format('revoke create on schema %I from public', current_schema());
  execute format('grant usage, create on schema %I to loom_owner', current_schema());
  execute format('grant usage on schema %I to loom_serve, loom_read', current_schema());
  -- A restore stages the backup in temporary tables.
  execute format('grant temporary on database %I to loom_serve', current_database());

  -- A table that gets another owner is locked. To wait for one lock with others held could end in a deadlock with a commit or read, which
  -- would then fail. Behind a backup, everything would wait. So this gets all locks before PostgreSQL looks for deadlocks (after 1 s by
  -- default), or releases them and tries again. Every commit begins with loom_state.
  for v_attempt in 1..5 loop
    begin
      v_until := clock_timestamp() + interval '0.8 seconds';
      for v_name in
        select oid::regclass::text from pg_class
         where relnamespace = to_regnamespace(quote_ident(current_schema())) and relkind in ('r', 'p') and relname like 'loom\_%'
           and relowner <> 'loom_owner'::regrole
         order by relname <> 'loom_state', relname
      loop
        perform set_config('lock_timeout', greatest(1, 1000 * extract(epoch from v_until - clock_timestamp()))::int::text, true);
        execute format('lock table %s in access exclusive mode', v_name);
      end loop;
      exit;
    exception when lock_not_available then
      if v_attempt = 5 then
        raise exception 'a table of LOOM is in use' using errcode = 'lock_not_available',
          hint = 'Run this file again when no backup, restore, undo or verification is running.';
      end if;
      perform pg_sleep(0.5);
    end;
  end loop;
  perform set_config('lock_timeout', v_before, true);

  for v_object in
    select 'table' as kind, oid::regclass::text as name, relowner as owner from pg_class
     where relnamespace = to_regnamespace(quote_ident(current_schema())) and relkind in ('r', 'p') and relname like 'loom\_%'
     union all
    select case prokind when 'a' then 'aggregate' else 'function' end, oid::regprocedure::text, proowner from pg_proc
     where pronamespace = to_regnamespace(quote_ident(current_schema())) and proname like 'loom\_%'
     union all
    select 'type', t.oid::regtype::text, typowner from pg_type t join pg_class c on c.oid = t.typrelid and c.relkind = 'c'
     where t.typnamespace = to_regnamespace(quote_ident(current_schema())) and t.typname like 'loom\_%'
  loop
    if v_object.owner <> 'loom_owner'::regrole then
      execute format('alter %s %s owner to loom_owner', v_object.kind, v_object.name);
    end if;
    if v_object.kind = 'table' then
      execute format('revoke all on %s from public, loom_serve, loom_read', v_object.name);
      execute format('grant select on %s to loom_serve, loom_read', v_object.name);
    elsif v_object.kind <> 'type' then
      execute format('revoke execute on function %s from public, loom_read', v_object.name);
      execute format('grant execute on function %s to loom_serve', v_object.name);
    end if;
  end loop;

  if to_regclass('loom_backup_run') is null then
    raise notice 'LOOM has no tables of this version here yet: migrate as loom_owner, then run this file again';
    return;
  end if;
  grant insert on loom_audit to loom_serve;
  grant insert, update, delete on loom_state, loom_document, loom_scratch, loom_lineage, loom_change, loom_backup_run to loom_serve;
  grant insert, update on loom_backup_run_total, loom_backup_claim to loom_serve;
  grant insert, delete on loom_snapshot, loom_snapshot_document, loom_snapshot_audit to loom_serve;
  -- What docs/verify-chain.sql calls.
  grant execute on function loom_fold(text, jsonb), loom_fold_step(jsonb, text, jsonb), loom_merge(jsonb, jsonb, timestamptz) to loom_read;
end
$$;

commit;
