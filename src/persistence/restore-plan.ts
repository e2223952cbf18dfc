import type { PoolClient } from 'pg';
import type { CheckedBackup } from '../backup/check.ts';
import type { AuditHead } from '../domain/audit.ts';
import type { DocumentNames, RestoreReport } from '../domain/backup.ts';
import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';

export interface DocumentsPlan {
  counts: RestoreReport['documents'];
  names: DocumentNames;
}

/** What restoring the staged documents would change in the live ones. */
export async function planDocuments(client: PoolClient, stateKey: string): Promise<DocumentsPlan> {
  const { rows } = await client.query<RestoreReport['documents'] & { names: Partial<DocumentNames> }>(
    `with difference as materialized (
       select name, case when l.name is null then 'added' when s.name is null then 'removed'
                         when s.sha256 <> l.sha256 then 'changed' else 'unchanged' end as kind
         from (select name, sha256 from loom_stage_document) s
         full join (select name, sha256 from loom_document where state_key = $1) l using (name)
     ), named as (
       select name, kind, row_number() over (partition by kind order by name) as place
         from difference where kind <> 'unchanged'
     ), bounded as (
       select kind, array_agg(name order by name) as names from named where place <= $2 group by kind
     )
     select count(*) filter (where kind = 'added') as added, count(*) filter (where kind = 'changed') as changed,
            count(*) filter (where kind = 'removed') as removed, count(*) filter (where kind = 'unchanged') as unchanged,
            coalesce((select json_object_agg(kind, names) from bounded), '{}') as names
       from difference`,
    [stateKey, limits.planNames],
  );
  const row = rows[0];
  const counts = {
    added: row?.added ?? 0,
    changed: row?.changed ?? 0,
    removed: row?.removed ?? 0,
    unchanged: row?.unchanged ?? 0,
  };
  const { added = [], changed = [], removed = [] } = row?.names ?? {};
  const truncated = Math.max(counts.added, counts.changed, counts.removed) > limits.planNames;
  return { counts, names: { added, changed, removed, truncated } };
}

/** What restoring the staged entries would do to the live chain. */
export interface AuditPlan {
  /** Entries to adopt as they are: those after the live head. */
  adopt: number;
  /** Live entries after the backup's head to take out. */
  replace: number;
  /** The entry that the restore's own is linked to. */
  linkTo: AuditHead;
}

/** Throws `audit_diverged` when neither chain holds the other; `different` is what `firstDifference` found up to the live head. */
export function planAudit(
  live: AuditHead,
  backup: CheckedBackup,
  { truncate, different }: { truncate: boolean; different: number | undefined },
): AuditPlan {
  const { audit_first: first, audit_head: head } = backup.manifest;
  if (first === null) return { adopt: 0, replace: 0, linkTo: live };
  if (different !== undefined) throw diverged(different, live, head);
  if (head.seq <= live.seq) {
    const replace = truncate ? live.seq - head.seq : 0;
    return { adopt: 0, replace, linkTo: truncate ? head : live };
  }
  const reaches = first.seq <= live.seq || (first.seq === live.seq + 1 && first.previous_hash === live.hash);
  if (!reaches) throw diverged(Math.min(first.seq, live.seq + 1), live, head);
  return { adopt: head.seq - live.seq, replace: 0, linkTo: head };
}

/**
 * The first seq after `after` and up to `upTo` at which the backup has an entry, and the live chain has another or none. A hash
 * covers everything before it, but the entries are compared one by one all the same: whoever edited one by SQL must not
 * have it taken for the backup's.
 */
export async function firstDifference(
  client: PoolClient,
  stateKey: string,
  { after, upTo }: { after: number; upTo: number },
): Promise<number | undefined> {
  const { rows } = await client.query<{ seq: number | null }>(
    `select min(s.seq) as seq
       from loom_stage_audit s left join loom_audit a on a.state_key = $1 and a.seq = s.seq
      where s.seq > $2 and s.seq <= $3 and (a.hash is distinct from s.hash or a.entry is distinct from s.line - 'hash')`,
    [stateKey, after, upTo],
  );
  return rows[0]?.seq ?? undefined;
}

function diverged(seq: number, live: AuditHead, head: AuditHead): LoomError {
  return new LoomError(
    'audit_diverged',
    `The backup's audit trail (up to entry ${head.seq}) and the live one (up to entry ${live.seq}) part at entry ${seq}. ` +
      'Restoring across a divergence is not supported by this version; nothing was changed.',
    { seq },
  );
}
