import type { Queries } from '../connection/connection.ts';

/**
 * Selects the last restore or undo up to the seq `$2` of which the trail does not tell the changes. A node of an
 * earlier schema version made it. For any document, an earlier change may not be the last one.
 */
const UNTOLD = `select coalesce(max(seq), 0) as seq from loom_change where state_key = $1 and name = '' and seq <= $2`;

/**
 * Selects whether the trail leads to the digest of `l`, the last change of a document, where `u` is `UNTOLD`. A patch
 * of an untold document has a digest, but its value does not follow from the trail.
 */
const IS_TOLD = `l.seq > u.seq
  and (u.seq = 0 or l.op <> 'merge'
       or exists (select from loom_change p
                   where p.state_key = $1 and p.name = l.name and p.seq > u.seq and p.seq < l.seq and p.op <> 'merge'))`;

/**
 * Stages what the entries up to `upTo` say last of each document, if that is not what the document is: then its digest
 * or revision differs, or it is missing, or the trail does not tell its digest. Reads the whole index, so it runs
 * before the state row is locked, unless the operation adopts entries.
 */
export async function stageLastChanges(queries: Queries, stateKey: string, upTo: number): Promise<void> {
  await queries.execute('truncate loom_stage_last');
  await queries.execute(
    `insert into loom_stage_last (name, revision, op, sha256)
     select name, l.revision, l.op, case when is_told then l.sha256 end
       from (select distinct on (name) name, seq, revision, op, sha256 from loom_change
              where state_key = $1 and name <> '' and seq <= $2 order by name, seq desc) l
       full join (select name, revision, sha256 from loom_document where state_key = $1) d using (name)
      cross join (${UNTOLD}) u
      cross join lateral (select ${IS_TOLD} as is_told) told
      where case when d.revision is null then l.op <> 'delete'
                 else is_told is not true or l.sha256 is distinct from d.sha256 or l.revision <> d.revision end`,
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
     select n.name, l.revision, l.op, case when ${IS_TOLD} then l.sha256 end
       from (select distinct c.name from loom_audit a cross join lateral loom_entry_changes(a.entry) c
              where a.state_key = $1 and a.seq > $3) n
       left join lateral (
              select name, seq, revision, op, sha256 from loom_change c
               where c.state_key = $1 and c.name = n.name and c.seq <= $2 order by c.seq desc limit 1) l on true
      cross join (${UNTOLD}) u
     on conflict (name) do update set revision = excluded.revision, op = excluded.op, sha256 = excluded.sha256`,
    [stateKey, upTo, after],
  );
}
