import { limits } from '../../limits.ts';

/** Holds the parameters of a selection as SQL expressions. Each but the state key may be null. */
export interface Parameters {
  key: string;
  after: string;
  before: string;
  action: string;
  document: string;
  since: string;
  until: string;
}

type Order = 'asc' | 'desc';

/**
 * Returns a condition on an entry of a restore or undo, as SQL: whether it changed a document. `key` and `name` are the
 * expressions of the state key and the name. The entry lists the names that it changed, up to a bound. Beyond that, its
 * undo record has them, as long as it is kept. Without one, it may have changed the document, so it is selected.
 */
export function mayHaveChanged(key: string, name: string): string {
  const lists = ['added', 'changed', 'removed'];
  const isListed = lists.map((list) => `coalesce(entry -> action -> 'document_names' -> '${list}' ? ${name}, false)`);
  const isComplete = lists.map((list) => `@.document_names.${list}.size() == @.documents.${list}`).join(' && ');
  return `entry -> action -> 'replaced_state' is distinct from 'false'
      and (${isListed.join(' or ')}
           or (not coalesce(jsonb_path_exists(entry -> action, '$ ? (${isComplete})'), false)
               and not exists (
                 select from loom_snapshot s where s.state_key = ${key} and s.event_id = loom_audit.event_id
                    and not exists (select from loom_snapshot_document d
                                     where d.state_key = ${key} and d.revision = s.revision and d.name = ${name}))))`;
}

/** Returns a condition on `recorded_at` as SQL, of which each bound may be null. */
export function isWithin({ since, until }: Pick<Parameters, 'since' | 'until'>): string {
  return `(${since} is null or recorded_at >= ${since}) and (${until} is null or recorded_at < ${until})`;
}

/**
 * Returns a query of the seqs of the entries of a document. It reads the index of changes (`loom_change`), and the
 * entries of restores and undos, which have an index of their own. `limit` is an SQL expression.
 */
export function selectByDocument(parameters: Parameters, order: Order, limit: string): string {
  const { key, after, before, document } = parameters;
  const ordered = `order by seq ${order} limit ${limit}`;
  return `(select c.seq from loom_change c cross join lateral (${entryOf(key, isSelected(parameters))}) entry
            where c.state_key = ${key} and c.name = ${document} and c.seq > ${after} and c.seq < ${before} ${ordered})
          union
          (select seq from loom_audit
            where state_key = ${key} and action in ('restore', 'undo') and ${isSelected(parameters)}
              and ${mayHaveChanged(key, document)} ${ordered})
          ${ordered}`;
}

/**
 * Returns a query of `column` of the entries of any document, and the expressions that it needs in a `with recursive`.
 * It finds the place of a time by bisection, and then compares each time.
 */
export function selectInOrder(
  parameters: Parameters,
  { column, order, limit }: { column: string; order: Order; limit: string },
): { ctes: string; query: string } {
  const { key, since, until } = parameters;
  const step = `interval '${limits.maxClockStepMs} milliseconds'`;
  return {
    ctes: `${bisection('first', parameters, `${since} - ${step}`)}, ${bisection('last', parameters, `${until} + ${step}`)}`,
    query: `select ${column} from loom_audit
             where state_key = ${key} and seq >= coalesce((select max(low) from first), 0)
               and seq < coalesce((select max(low) from last), ${Number.MAX_SAFE_INTEGER}) and ${isSelected(parameters)}
             order by seq ${order} limit ${limit}`,
  };
}

/**
 * Returns a query of one row if the entry of the row `c` of the index is selected. With "offset 0", PostgreSQL looks up
 * entry by entry, even if it has no statistics: it would otherwise join the whole trail.
 */
export function entryOf(key: string, isSelected: string): string {
  return `select from loom_audit
    where state_key = ${key} and seq = c.seq and ${isSelected} offset 0`;
}

function isSelected({ after, before, action, ...times }: Parameters): string {
  return `seq > ${after} and seq < ${before} and (${action} is null or action = ${action}) and ${isWithin(times)}`;
}

/**
 * Returns a recursive expression whose last `low` is the first seq of an entry from `time` on, as long as the clock of
 * the database did not go back. It has no row, or only nulls, if `time` is null or the range has no entry.
 */
function bisection(name: string, { key, after, before }: Parameters, time: string): string {
  const range = `seq > ${after} and seq < ${before}`;
  return `${name} (low, high) as (
      select min(seq), max(seq) + 1 from loom_audit where state_key = ${key} and ${range} and ${time} is not null
      union all
      select case when found.recorded_at < ${time} then middle + 1 else low end,
             case when found.recorded_at < ${time} then high else middle end
        from ${name} cross join lateral (select (low + high) / 2 as middle) half
             cross join lateral (
               select recorded_at from loom_audit
                where state_key = ${key} and ${range} and seq >= middle order by seq limit 1) found
       where low < high)`;
}
