import type { Queries } from '../connection/connection.ts';
import { sqlStateOf } from '../connection/faults.ts';
import { functionNames, tableRights } from './objects.ts';

/** Holds what the database says about serving one state. A list is empty if nothing of its kind is wrong. */
export interface ServingFacts {
  /** Why the server refuses writes: it is in recovery, or a setting forbids them. Null if it accepts them. */
  readOnly: 'recovery' | 'setting' | null;
  /** Null without LOOM's tables, or if the role may not read them. */
  schemaVersion: number | null;
  compatibleFrom: number | null;
  /** Missing objects, such as `function loom_commit`. */
  missing: string[];
  /** Missing rights, such as `SELECT on table loom_state`. */
  rights: string[];
  /** Statements that grant the missing rights. */
  grants: string[];
  /** Tables whose row-level security applies to the role. */
  filtered: string[];
  /** `lost` if documents or audit entries exist without the state's row; `unknown` if the role cannot look. */
  state: 'present' | 'absent' | 'lost' | 'unknown';
  /** Sessions of the role that wait for a synchronous standby, each with the start of its statement. */
  waiting: string[];
}

/**
 * Asks the database for everything that serving the state needs, in one statement. If an object is missing, or the role
 * may not use one, asks the catalog alone, which every role can read.
 */
export async function readServingFacts(queries: Queries, stateKey: string): Promise<ServingFacts> {
  const objects = [
    Object.entries(tableRights).flatMap(([table, rights]) => rights.map(() => table)),
    Object.values(tableRights).flat(),
    functionNames,
  ];
  try {
    const text = `select ${CATALOG}, ${VERSIONS}, ${STATE} from ${OBJECTS}`;
    const facts = requireFacts(await queries.firstRow<ServingFacts>(text, [...objects, stateKey]));
    return facts.state === 'absent' && (await hasRows(queries, stateKey)) ? { ...facts, state: 'lost' } : facts;
  } catch (error) {
    if (!isDenied(error)) throw error;
    const catalog = requireFacts(await queries.firstRow<ServingFacts>(`select ${CATALOG} from ${OBJECTS}`, objects));
    return { ...catalog, ...(await readVersions(queries)), state: 'unknown' };
  }
}

function requireFacts(facts: ServingFacts | undefined): ServingFacts {
  if (facts === undefined) throw new Error('the statement on the serving facts returned no row');
  return facts;
}

/** Returns whether the state has documents or entries. Asked apart, because a query also locks the tables it skips. */
async function hasRows(queries: Queries, stateKey: string): Promise<boolean> {
  const row = await queries.firstRow<{ found: boolean }>(
    `select exists (select from loom_document where state_key = $1)
         or exists (select from loom_audit where state_key = $1) as found`,
    [stateKey],
  );
  return row?.found === true;
}

async function readVersions(queries: Queries): Promise<Pick<ServingFacts, 'schemaVersion' | 'compatibleFrom'>> {
  const none = { schemaVersion: null, compatibleFrom: null };
  const row = await queries.firstRow<typeof none>(`select ${VERSIONS}`).catch((error: unknown) => {
    if (isDenied(error)) return none;
    throw error;
  });
  return row ?? none;
}

/** Returns whether the statement names an object that is missing, or that the role may not use. */
function isDenied(error: unknown): boolean {
  const state = sqlStateOf(error);
  return state !== undefined && deniedStates.has(state);
}

const deniedStates = new Set([
  '42P01', // undefined_table
  '42703', // undefined_column
  '42883', // undefined_function
  '3F000', // invalid_schema_name
  '42501', // insufficient_privilege
]);

const VISIBLE_FUNCTION = 'p.proname = any ($3::text[]) and pg_function_is_visible(p.oid)';

/**
 * Finds LOOM's objects as the node's own statements do, through the search path. A schema without `usage` is no part of
 * the search path, so a role without this right sees no table of LOOM.
 */
const OBJECTS = `(
    select array_agg(distinct name) filter (where to_regclass(name) is null) as missing_tables,
           array_agg(distinct name) filter (where row_security_active(to_regclass(name))) as filtered_tables
      from unnest($1::text[]) name
  ) tables, lateral (
    select array_agg(name order by name) as missing_functions from unnest($3::text[]) name
     where name not in (select p.proname from pg_proc p where ${VISIBLE_FUNCTION})
  ) functions, lateral (
    select array_agg(format('%s on %s %s', privilege, kind, object) order by place, object) as rights,
           array_agg(format('GRANT %s ON %s %s TO %I;', privilege, kind, object, current_user) order by place, object) as grants
      from (select 1 as place, 'USAGE' as privilege, 'schema' as kind, quote_ident(n.nspname) as object
              from pg_namespace n join pg_class c on c.relnamespace = n.oid and c.relname = 'loom_meta'
             where to_regclass('loom_meta') is null and not has_schema_privilege(n.oid, 'usage')
               and n.nspname = any (regexp_split_to_array(
                     replace(replace(current_setting('search_path'), '"', ''), '$user', current_user), ' *, *'))
             union all
            select 2, upper(privilege), 'table', name from unnest($1::text[], $2::text[]) as t (name, privilege)
             where not has_table_privilege(to_regclass(name), privilege)
             union all
            select 3, 'EXECUTE', 'function', p.oid::regprocedure::text from pg_proc p
             where ${VISIBLE_FUNCTION} and not has_function_privilege(p.oid, 'execute')) wanted
  ) privileges`;

/**
 * The statement stays read-only if the server is promoted while it runs, which is no setting. Other roles' sessions
 * show no wait event, unless this role may read all statistics.
 */
const CATALOG = `
    case when current_setting('default_transaction_read_only')::bool and not pg_is_in_recovery() then 'setting'
         when current_setting('transaction_read_only')::bool then 'recovery' end as "readOnly",
    array(select 'table ' || name from unnest(missing_tables) name)
      || array(select 'function ' || name from unnest(missing_functions) name) as missing,
    coalesce(rights, '{}') as rights, coalesce(grants, '{}') as grants, coalesce(filtered_tables, '{}') as filtered,
    array(select pid || ' ' || query_start from pg_stat_activity
           where wait_event = 'SyncRep' and usename = session_user and datname = current_database()) as waiting`;

const version = (key: string): string =>
  `(select case when jsonb_typeof(value) = 'number' then value::int end from loom_meta where key = '${key}')`;

const VERSIONS = `${version('schema_version')} as "schemaVersion", ${version('schema_compatible_from')} as "compatibleFrom"`;

const STATE = `case when exists (select from loom_state where state_key = $4) then 'present' else 'absent' end as state`;
