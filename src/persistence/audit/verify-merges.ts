import type { Connection } from '../connection/connection.ts';
import {
  type CheckedChanges,
  COUNTED,
  describeUnproven,
  LIST_LIMIT,
  MAX_SEQ,
  type Mismatches,
  NO_MISMATCHES,
  toMismatches,
} from './verify-changes.ts';

/**
 * Holds each merge to the digest that its entry claims: that of the result of all changes since the last put or
 * deletion. Names the first wrong merge after each of these, because the later ones build on it. After a merge without
 * a digest or an untold restore, the document is unknown until the next put or deletion.
 */
export async function checkMerges(
  connection: Connection,
  stateKey: string,
  { hasMerges, changes, untoldSeqs }: CheckedChanges,
): Promise<Mismatches> {
  if (!hasMerges) return NO_MISMATCHES;
  const rows = await connection.rows<{ count: number; seq: number; name: string }>(foldMerges(changes), [
    stateKey,
    untoldSeqs,
  ]);
  return toMismatches(rows, describeUnproven);
}

/**
 * Returns the statement. A run is a change that does not depend on the document before, and the merges after it. It is
 * known if it begins with a put or deletion. The merges of a new document are known, too, unless an untold restore may
 * have made the document. So the runs begin anew after each of these, with the seqs $2. Reads the values only of known
 * runs with merges.
 */
function foldMerges(changes: string): string {
  return `
    with listed as (
      select name, seq, op, sha256, op = 'merge' and sha256 is not null as is_told, width_bucket(seq, $2::bigint[]) as era
        from ${changes} c
       where name in (select name from ${changes} m where op = 'merge' and sha256 is not null)
    ), runs as (
      select *, count(*) filter (where not is_told) over (partition by name, era order by seq) as run from listed
    ), needed as materialized (
      select * from (
        select *, bool_or(is_told) over run as has_merges,
               case when run = 0 then era = 0 else first_value(op) over (run order by seq) <> 'merge' end as is_known
          from runs window run as (partition by name, era, run)) r
       where has_merges and is_known
    )
    select name, least(min(seq), ${MAX_SEQ}) as seq, ${COUNTED}
      from (select n.*, loom_fold(op, value) over (partition by name, era, run order by seq) as document
              from needed n
              join (select a.seq, change ->> 'name' as name, change -> 'value' as value
                      from loom_audit a cross join lateral jsonb_array_elements(a.entry -> 'changes') e (change)
                     where a.state_key = $1 and a.seq in (select seq from needed)) v using (name, seq)) folded
     where is_told and sha256 is distinct from loom_value_sha256(document)
     group by name, era, run
     order by 2, 1 ${LIST_LIMIT}`;
}
