import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';

/**
 * Empties databases for other tests, because cloning and dropping one takes most of a short test's time. A database is
 * reused only if the test changed no more than rows, and left no session open.
 */

/** Time for sessions that a test has just closed to end. */
const sessionEndMs = 200;

/** Returns a digest of the schema, the settings and the rows of `loom_meta`, which must equal those of a new clone. */
export async function fingerprint(client: pg.Pool | pg.Client): Promise<string> {
  const { rows } = await client.query<{ digest: string }>(
    `select encode(sha256(convert_to(string_agg(line, E'\\n' order by line), 'UTF8')), 'hex') as digest from (
       select (to_jsonb(c) - array['relfilenode', 'relpages', 'reltuples', 'relallvisible', 'relallfrozen',
                                   'relfrozenxid', 'relminmxid'])::text from pg_class c where oid >= 16384
       union all select a::text from pg_attribute a where attrelid >= 16384
       union all select p::text from pg_proc p where oid >= 16384
       union all select t::text from pg_trigger t
       union all select c::text from pg_constraint c where oid >= 16384
       union all select i::text from pg_index i where indexrelid >= 16384
       union all select d::text from pg_attrdef d
       union all select n::text from pg_namespace n where nspname !~ '^pg_(toast_)?temp'
       union all select e::text from pg_extension e
       union all select t::text from pg_type t where oid >= 16384
       union all select r::text from pg_rewrite r where ev_class >= 16384
       union all select p::text from pg_policy p
       union all select e::text from pg_event_trigger e
       union all select concat(datallowconn, datconnlimit, setconfig)
         from pg_database d left join pg_db_role_setting s on s.setdatabase = d.oid where datname = current_database()
       union all select m::text from loom_meta m) lines(line)`,
  );
  return rows[0]?.digest ?? '';
}

/** Removes all rows of a database, and returns whether it now equals a new clone. */
export async function emptyForReuse(url: string, pristine: string): Promise<boolean> {
  const client = new pg.Client({ connectionString: url });
  try {
    await client.connect();
    if (await isInUse(client)) return false;
    if ((await fingerprint(client)) !== pristine) return false;
    // Truncate only tables with rows, because PostgreSQL creates new files for each truncated table.
    await client.query(`do $$
      declare filled text := (
        select string_agg(oid::regclass::text, ', ') from pg_class
          where relkind = 'r' and relnamespace = 'public'::regnamespace and relname <> 'loom_meta' and pg_relation_size(oid) > 0);
      begin
        set local session_replication_role = replica;
        if filled is not null then execute 'truncate ' || filled || ' cascade'; end if;
      end $$`);
    return true;
  } catch {
    return false;
  } finally {
    await client.end().catch(() => undefined);
  }
}

async function isInUse(client: pg.Client): Promise<boolean> {
  const deadline = Date.now() + sessionEndMs;
  for (;;) {
    const { rowCount } = await client.query(
      `select from pg_stat_activity where datname = current_database() and pid <> pg_backend_pid()`,
    );
    if (rowCount === 0) return false;
    if (Date.now() > deadline) return true;
    await sleep(10);
  }
}
