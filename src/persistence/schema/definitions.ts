import { createHash } from 'node:crypto';
import type { Queries } from '../connection/connection.ts';
import { knownDefinitions } from './known-definitions.ts';
import { tableRights } from './objects.ts';
import { CURRENT_SCHEMA_VERSION } from './schema.ts';

/** Describes an object of LOOM that is not as the migrations created it. */
export interface Redefinition {
  /** Such as `function loom_chain_hash(previous_hash bytea, entry jsonb)`. */
  object: string;
  how: 'changed' | 'missing' | 'shadowed';
  /** The schema that shadows the object. */
  by?: string;
}

/**
 * Runs the rest of the transaction with LOOM's schema as the search path, and with names printed as the migrations
 * have them. Returns what the session's own path shadows: tables of LOOM in another schema, and functions and operators
 * of PostgreSQL that another schema redefines. The statements before name every object with its schema.
 */
export async function pinSearchPath(queries: Queries): Promise<Redefinition[]> {
  const tables = await queries.rows<{ name: string; schema: string }>(
    `select t.name, n.nspname::pg_catalog.text as schema
       from pg_catalog.unnest($1::pg_catalog.text[]) as t (name)
       join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) pg_catalog.to_regclass(t.name)
       join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace`,
    [Object.keys(tableRights)],
  );
  const [home = 'public'] = rankByCount(tables.map(({ schema }) => schema));
  const path = await queries.firstRow<{ schemas: string[] }>(
    `select pg_catalog.current_schemas(true)::pg_catalog.text[] as schemas,
            pg_catalog.set_config('search_path', pg_catalog.format('%I, pg_temp', $1::pg_catalog.text), true),
            pg_catalog.set_config('quote_all_identifiers', 'off', true)`,
    [home],
  );
  const schemas = path?.schemas ?? [];
  const before = schemas.slice(0, schemas.indexOf('pg_catalog'));
  const elsewhere = tables.filter(({ schema }) => schema !== home);
  return [
    ...elsewhere.map(({ name, schema }) => ({ object: `table ${name}`, how: 'shadowed' as const, by: schema })),
    ...(before.length === 0 ? [] : await findShadows(queries, before)),
  ];
}

/** Returns the distinct words, the most frequent first. */
function rankByCount(words: string[]): string[] {
  const count = (word: string): number => words.filter((one) => one === word).length;
  return [...new Set(words)].sort((one, other) => count(other) - count(one));
}

async function findShadows(queries: Queries, schemas: string[]): Promise<Redefinition[]> {
  const rows = await queries.rows<{ object: string; schema: string }>(
    `select distinct 'function ' || p.proname as object, n.nspname::text as schema
       from pg_proc p join pg_namespace n on n.oid = p.pronamespace
      where n.nspname = any ($1) and exists (
              select from pg_proc b where b.proname = p.proname and b.pronamespace = 'pg_catalog'::regnamespace)
      union all
     select distinct 'operator ' || o.oprname, n.nspname::text
       from pg_operator o join pg_namespace n on n.oid = o.oprnamespace
      where n.nspname = any ($1) and exists (
              select from pg_operator b where b.oprname = o.oprname and b.oprnamespace = 'pg_catalog'::regnamespace)
      order by 1, 2 limit 100`,
    [schemas],
  );
  return rows.map(({ object, schema }) => ({ object, how: 'shadowed', by: schema }));
}

/**
 * Compares the tables, functions and triggers of LOOM with those that the migrations of this version create. A schema
 * of another version may have other ones: then compares only the version with the ledger. Call it after
 * `pinSearchPath`.
 */
export async function findRedefinitions(queries: Queries): Promise<Redefinition[]> {
  const { version, ledgerVersion, definitions } = await readDefinitions(queries);
  if (version !== ledgerVersion) return [{ object: 'row schema_version of loom_meta', how: 'changed' }];
  if (version !== CURRENT_SCHEMA_VERSION) return [];
  return Object.entries(knownDefinitions).flatMap(([object, sha256]): Redefinition[] => {
    const found = definitions[object];
    if (found === sha256) return [];
    return [{ object, how: found === undefined ? 'missing' : 'changed' }];
  });
}

/** Describes an object that is not as the migrations created it. */
export function describeRedefinition({ object, how, by }: Redefinition): string {
  if (how === 'shadowed') return `The search path of the database role finds the ${object} of the schema ${by} first.`;
  if (how === 'missing') return `The ${object} is missing.`;
  return `The ${object} is not as the migrations created it.`;
}

export interface Definitions {
  version: number | null;
  /** The version of the last migration in the ledger. */
  ledgerVersion: number | null;
  /** The digest of each object. */
  definitions: Record<string, string>;
}

/** Reads the digest of each definition. The node computes it: a server's function for that may be redefined, too. */
export async function readDefinitions(queries: Queries): Promise<Definitions> {
  const rows = await queries.rows<{ object: string; definition: string }>(DEFINITIONS, [Object.keys(tableRights)]);
  const versions = await queries.firstRow<Omit<Definitions, 'definitions'>>(
    `select (select value #>> '{}' from loom_meta where key = 'schema_version')::int as version,
            (select value #>> '{-1,version}' from loom_meta where key = 'migrations')::int as "ledgerVersion"`,
  );
  const digests = rows.map(({ object, definition }) => [object, digest(definition)] as const);
  const { version = null, ledgerVersion = null } = versions ?? {};
  return { version, ledgerVersion, definitions: Object.fromEntries(digests) };
}

function digest(definition: string): string {
  return createHash('sha256').update(definition).digest('hex').slice(0, 32);
}

/**
 * Selects what decides how an object works, but nothing that differs between versions of PostgreSQL or that an operator
 * may set, such as the cost of a function or the partitions of a table. A rule would replace the statements on a table.
 */
const DEFINITIONS = `
  select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as object,
         concat_ws(E'\\n', l.lanname, pg_get_function_result(p.oid), p.prokind, p.provolatile, p.proisstrict, p.prosecdef, p.proparallel,
           replace(array_to_string(p.proconfig, E'\\n'), 'search_path=' || quote_ident(current_schema()), 'search_path=SCHEMA'),
           a.aggtransfn, a.aggfinalfn, a.agginitval, p.prosrc) as definition
    from pg_proc p
    join pg_language l on l.oid = p.prolang
    left join pg_aggregate a on a.aggfnoid = p.oid
   where p.pronamespace = to_regnamespace(quote_ident(current_schema())) and p.proname like 'loom\\_%'
   union all
  select 'table ' || c.relname,
         concat_ws(' ', case when c.relkind in ('r', 'p') then 'table' else c.relkind::text end, c.relhasrules)
    from pg_class c where c.oid in (select to_regclass(name) from unnest($1::text[]) name)
   union all
  select 'trigger ' || t.tgname || ' on ' || c.relname,
         concat_ws(' ', case when t.tgenabled = 'A' then 'O' else t.tgenabled end,
           replace(pg_get_triggerdef(t.oid), quote_ident(current_schema()) || '.', ''))
    from pg_trigger t join pg_class c on c.oid = t.tgrelid
   where c.oid in (select to_regclass(name) from unnest($1::text[]) name)
     and t.tgname like 'loom\\_%' and not t.tgisinternal and t.tgparentid = 0`;
