import type { Queries } from '../connection/connection.ts';

/**
 * Selects the last restore or undo up to the seq `$2` of which the trail does not tell the changes. A node of an
 * earlier schema version made it. For any document, an earlier change may not be the last one.
 */
const UNTOLD = `select coalesce(max(seq), 0) as seq from loom_change where state_key = $1 and name = '' and seq <= $2`;

/**
 * Stages what the entries up to `upTo` say last of each document, if that is not what the document is: then its digest
 * or revision differs, or it is missing, or the trail does not tell its digest. Reads the whole index, so it runs
 * before the state row is locked, unless the operation adopts entries.
 */
export async function stageLastChanges(queries: Queries, stateKey: string, upTo: number): Promise<void> {
  await queries.execute('truncate loom_stage_last');
  await queries.execute(
    `insert into loom_stage_last (name, revision, op, sha256)
     select name, l.revision, l.op, case when l.seq > u.seq then l.sha256 end
       from (select distinct on (name) name, seq, revision, op, sha256 from loom_change
              where state_key = $1 and name <> '' and seq <= $2 order by name, seq desc) l
       full join (select name, revision, sha256 from loom_document where state_key = $1) d using (name)
      cross join (${UNTOLD}) u
      where case when d.revision is null then l.op <> 'delete'
                 else l.seq is null or l.seq <= u.seq or l.sha256 is distinct from d.sha256 or l.revision <> d.revision end`,
    [stateKey, upTo],
  );
  await queries.execute('analyze loom_stage_last');
}

/** Stages the same for every document that an entry after `after` changes. The entries after `upTo` do not count. */
export async function refreshLastChanges(
  queries: Queries,
  stateKey: string,
  { after, upTo }: { after: number; upTo: number },
): Promise<void> {
  await queries.execute(
    `insert into loom_stage_last (name, revision, op, sha256)
     select n.name, l.revision, l.op, case when l.seq > u.seq then l.sha256 end
       from (select distinct c.name from loom_audit a cross join lateral loom_entry_changes(a.entry) c
              where a.state_key = $1 and a.seq > $3) n
       left join lateral (
              select seq, revision, op, sha256 from loom_change c
               where c.state_key = $1 and c.name = n.name and c.seq <= $2 order by c.seq desc limit 1) l on true
      cross join (${UNTOLD}) u
     on conflict (name) do update set revision = excluded.revision, op = excluded.op, sha256 = excluded.sha256`,
    [stateKey, upTo, after],
  );
}
