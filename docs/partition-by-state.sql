-- Partitions LOOM's large tables by state key, for a database with many states:
--
--   psql "$LOOM_PG_URL" -v ON_ERROR_STOP=1 -f docs/partition-by-state.sql
--
-- Moves every row in one transaction, so it needs free disk space for a second copy of these tables. Requests wait meanwhile and time
-- out, so stop the nodes first. Run it as the owner of the tables. Choose the number of partitions in the first lines of the block.
begin;
set local lock_timeout = '10s';
do $$
declare
  v_partitions constant int := 16;
  v_tables constant text[] := '{loom_document, loom_audit, loom_change, loom_snapshot_document, loom_snapshot_audit}';
  v_table text;
  v_whole text;
  v_old regclass;
  v_key text;
  v_indexes text[];
  v_triggers text[];
  v_options text;
  v_columns text;
  v_statement text;
  v_found record;
  v_right record;
begin
  lock table loom_state, loom_document, loom_audit, loom_change, loom_snapshot_document, loom_snapshot_audit in access exclusive mode;
  foreach v_table in array v_tables loop
    v_old := v_table::regclass;
    v_whole := v_table || '_whole';
    if exists (select from pg_class where oid = v_old and (relkind <> 'r' or relrowsecurity)) then
      raise exception '% is partitioned already, or has row security: this file copies no policies', v_table;
    end if;
    -- The definitions name the table, so they apply to the new one later.
    select pg_get_constraintdef(oid) into v_key from pg_constraint where conrelid = v_old and contype = 'p';
    v_indexes := array(select pg_get_indexdef(indexrelid) from pg_index where indrelid = v_old and not indisprimary order by indexrelid);
    v_triggers := array(select pg_get_triggerdef(oid) from pg_trigger where tgrelid = v_old and not tgisinternal order by tgname);
    select coalesce('with (' || array_to_string(reloptions, ', ') || ')', '') into v_options from pg_class where oid = v_old;
    select string_agg(quote_ident(attname), ', ' order by attnum) into v_columns
      from pg_attribute where attrelid = v_old and attnum > 0 and not attisdropped and attgenerated = '';

    -- Names of indexes are unique in a schema.
    for v_found in select indexrelid::regclass as index from pg_index where indrelid = v_old loop
      execute format('alter index %s rename to %I', v_found.index, v_found.index || '_whole');
    end loop;
    execute format('alter table %I rename to %I', v_table, v_whole);
    execute format('create table %I (like %I including all excluding indexes) partition by hash (state_key)', v_table, v_whole);
    for i in 0 .. v_partitions - 1 loop
      execute format('create table %I partition of %I for values with (modulus %s, remainder %s) %s',
        v_table || '_' || i, v_table, v_partitions, i, v_options);
    end loop;
    execute format('insert into %I (%s) select %2$s from %I', v_table, v_columns, v_whole);
    execute format('alter table %I add %s', v_table, v_key);
    foreach v_statement in array v_indexes || v_triggers loop
      execute v_statement;
    end loop;

    for v_right in
      select acl.privilege_type as name, case when acl.grantee = 0 then 'public' else acl.grantee::regrole::text end as grantee
        from pg_class c, aclexplode(c.relacl) acl where c.oid = v_old and acl.grantee <> c.relowner
    loop
      execute format('grant %s on %I to %s', v_right.name, v_table, v_right.grantee);
    end loop;
    execute format('drop table %I', v_whole);
  end loop;

  -- A statement that names a partition does not fire the statement triggers of the whole table.
  for v_found in select inhrelid::regclass as partition from pg_inherits where inhparent = 'loom_audit'::regclass loop
    execute format('create trigger loom_audit_append_only before update or delete or truncate on %s
      for each statement execute function loom_audit_refuse_rewrite()', v_found.partition);
  end loop;

  -- Open sessions, such as those of a pooler, have compiled functions with the row types of the old tables. A change of a function, even
  -- to the value that it has, makes every session compile it again.
  for v_found in
    select p.oid::regprocedure as function, p.procost as cost from pg_proc p join pg_language l on l.oid = p.prolang
     where p.pronamespace = (select relnamespace from pg_class where oid = 'loom_audit'::regclass)
       and l.lanname = 'plpgsql' and p.proname like 'loom\_%'
  loop
    execute format('alter function %s cost %s', v_found.function, v_found.cost);
  end loop;
end
$$;
commit;
-- Autovacuum analyzes the partitions but not the whole tables. Repeat this when the number of states has grown a lot.
analyze loom_document, loom_audit, loom_change, loom_snapshot_document, loom_snapshot_audit;
