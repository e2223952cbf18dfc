import type { PoolClient } from 'pg';
import { repeatedMember } from '../../backup/check/faults.ts';
import type { CheckedBackup } from '../../backup/check/frame.ts';
import type { AuditHead } from '../../domain/audit.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { readLive } from '../state/live.ts';

/** What restoring the staged entries would do to the live chain. */
export interface TrailPlan {
  /** Entries to adopt as they are: those after the live head. */
  adopt: number;
  /** Entries to append as `audit.import`. */
  import: number;
  /** Live entries after the backup's head to take out. */
  replace: number;
  /** The first seq at which the trails differ; null when one holds the other, or when the entries cannot be compared. */
  partedAt: number | null;
  /** The entry that what is appended is linked to. */
  base: AuditHead;
}

/** What was found out about both trails before anybody had to wait. */
export interface TrailComparison {
  /** Seq of the live head by then. */
  comparedTo: number;
  different: number | undefined;
  /** How many entries are missing; undefined while nobody has had to look. */
  missing: number | undefined;
}

/**
 * Compares most of the trail before the state row is locked. Entries are only ever appended, but for a restore, and there is no
 * other one: what is found now still holds then.
 */
export async function compareTrails(
  client: PoolClient,
  stateKey: string,
  backup: CheckedBackup,
): Promise<TrailComparison> {
  const { head } = await readLive(client, stateKey, '');
  const compared: TrailComparison = { comparedTo: head.seq, different: undefined, missing: undefined };
  if (!backup.hasAudit) return compared;
  if (backup.verified) compared.different = await firstDifference(client, stateKey, { after: 0, upTo: head.seq });
  if (isImported(head, backup, compared.different)) compared.missing = await stageMissing(client, stateKey);
  return compared;
}

/** `live` is the head by now, under the lock of the state row. May throw `audit_entry_too_large`. */
export async function planTrail(
  client: PoolClient,
  { stateKey, truncate }: { stateKey: string; truncate: boolean },
  live: AuditHead,
  backup: CheckedBackup,
  compared: TrailComparison,
): Promise<TrailPlan> {
  const nothing: TrailPlan = { adopt: 0, import: 0, replace: 0, partedAt: null, base: live };
  if (!backup.hasAudit) return nothing;
  const late = { after: compared.comparedTo, upTo: live.seq };
  const different = compared.different ?? (backup.verified ? await firstDifference(client, stateKey, late) : undefined);
  if (!backup.verified || isImported(live, backup, different)) {
    compared.missing ??= await stageMissing(client, stateKey);
    const partedAt = backup.verified ? (different ?? firstBeyond(live, backup.manifest.audit_first)) : null;
    return { ...nothing, import: compared.missing, partedAt };
  }
  const { audit_head: head } = backup.manifest;
  if (head.seq > live.seq) {
    await assertNotRepeated(client, stateKey, live);
    return { ...nothing, adopt: head.seq - live.seq, base: head };
  }
  return truncate ? { ...nothing, replace: live.seq - head.seq, base: head } : nothing;
}

/**
 * Whether the backup's entries cannot stand in the live trail as they are: the two differ, or the backup's begin after a gap, or
 * nobody can verify them.
 */
function isImported(live: AuditHead, backup: CheckedBackup, different: number | undefined): boolean {
  if (!backup.verified || different !== undefined) return true;
  const { audit_first: first, audit_head: head } = backup.manifest;
  if (first === null || head.seq <= live.seq || first.seq <= live.seq) return false;
  return first.seq !== live.seq + 1 || first.previous_hash !== live.hash;
}

/** A partial trail can repeat what came before it, and is only known to be forged by that. */
async function assertNotRepeated(client: PoolClient, stateKey: string, live: AuditHead): Promise<void> {
  if (live.seq === 0) return;
  const { rows } = await client.query<{ position: number; seq: number; member: string }>(
    `select position, s.seq, 'event_id' as member
       from loom_stage_audit s join loom_audit a on a.state_key = $1 and a.seq <= $2 and a.event_id = (s.line ->> 'event_id')::uuid
      where s.seq > $2
      union all
     select position, s.seq, 'idempotency_key'
       from loom_stage_audit s join loom_audit a on a.state_key = $1 and a.seq <= $2 and a.idempotency_key = s.line ->> 'idempotency_key'
      where s.seq > $2
      order by position, member limit 1`,
    [stateKey, live.seq],
  );
  const first = rows[0];
  if (first !== undefined) throw repeatedMember('/backup', first.position, first.seq, first.member);
}

function firstBeyond(live: AuditHead, first: { seq: number } | null): number {
  return Math.min(first?.seq ?? live.seq + 1, live.seq + 1);
}

/**
 * The first seq after `after` and up to `upTo` at which the backup has an entry, and the live chain has another or none. A hash
 * covers everything before it, but the entries are compared one by one all the same: whoever edited one by SQL must not
 * have it taken for the backup's.
 */
async function firstDifference(
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

/**
 * Notes which staged entries the live trail does not hold, neither as they are nor inside an `audit.import` entry, and answers how
 * many there are. So the same restore twice imports nothing the second time. What an undo has brought back may be an import of imports.
 * Throws `audit_entry_too_large`.
 */
export async function stageMissing(client: PoolClient, stateKey: string): Promise<number> {
  const { rowCount } = await client.query(
    `with recursive held (sha256, nested) as (
       select entry #>> '{import,sha256}',
              case when entry #>> '{import,original,action}' = 'audit.import' then entry #> '{import,original,import}' end
         from loom_audit where state_key = $1 and action = 'audit.import'
        union all
       select nested ->> 'sha256',
              case when nested #>> '{original,action}' = 'audit.import' then nested #> '{original,import}' end
         from held where nested is not null
     ), imported as materialized (
       select distinct sha256 from held
     )
     insert into loom_stage_missing (position)
     select position from loom_stage_audit s
      where not exists (
              select from loom_audit a
               where a.state_key = $1 and a.seq = s.seq and a.hash = s.hash and a.entry = s.line - 'hash')
        and not exists (select from imported i where i.sha256 = encode(loom_value_sha256(s.line), 'hex'))`,
    [stateKey],
  );
  await client.query('analyze loom_stage_missing');
  await assertImportable(client);
  return rowCount ?? 0;
}

/** What is imported becomes larger and deeper, and must still fit into a backup that can be restored. */
async function assertImportable(client: PoolClient): Promise<void> {
  const { rows } = await client.query<{ position: number; seq: number | null }>(
    `select position, seq from loom_stage_audit join loom_stage_missing using (position)
      where octet_length(line::text) > $1 or jsonb_path_exists(line, $2::text::jsonpath)
      order by position limit 1`,
    [
      limits.maxAuditEntryBytes - limits.auditImportBytes,
      `$.**{${limits.maxAuditEntryDepth - limits.auditImportDepth}}`,
    ],
  );
  const large = rows[0];
  if (large === undefined) return;
  throw new LoomError(
    'audit_entry_too_large',
    `Audit entry ${large.seq ?? large.position} is too large, or nested too deeply, to be imported into another trail.`,
    { pointer: `/backup/audit_entries/${large.position - 1}`, ...(large.seq === null ? {} : { seq: large.seq }) },
  );
}
