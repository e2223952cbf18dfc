import { repeatedMember } from '../../backup/check/faults.ts';
import type { CheckedBackup } from '../../backup/check/frame.ts';
import { type AuditHead, GENESIS_HASH } from '../../domain/audit.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Queries } from '../connection/connection.ts';
import { readStateHead } from '../state/state-row.ts';
import { indexStage, STAGED_LINES } from './stage.ts';

/** Describes what an operation does to the live audit trail. */
export interface TrailPlan {
  /** Number of entries after the live head to adopt unchanged. */
  adopt: number;
  /** Number of entries to append as `audit.import`. */
  import: number;
  /** Number of live entries after the backup's head to remove. */
  replace: number;
  /** The first seq at which the trails differ; null when one contains the other, or when they cannot be compared. */
  partedAt: number | null;
  /** The head that new entries are linked to. */
  base: AuditHead;
}

export interface TrailTarget {
  stateKey: string;
  /** Whether to remove the live entries after the backup's head. */
  truncate: boolean;
}

/** Holds the result of comparing both trails before the state row is locked. */
export interface TrailComparison {
  /** Seq of the live head at the time of the comparison. */
  comparedTo: number;
  /** Seq up to which the live trail would stay, if nothing is committed until the operation locks the state row. */
  keptTo: number;
  /** The first seq at which the trails differ. */
  different: number | undefined;
  /** Number of entries that the live trail lacks; undefined when they were not counted. */
  missing: number | undefined;
}

/**
 * Compares the trails before the state row is locked. Commits only append entries, and the lock excludes other
 * restores, so the result stays valid up to `comparedTo`. Throws `audit_entry_too_large`.
 */
export async function compareTrails(
  queries: Queries,
  { stateKey, truncate }: TrailTarget,
  backup: CheckedBackup,
): Promise<TrailComparison> {
  const { head } = await readStateHead(queries, stateKey);
  const comparedTo = head.seq;
  if (!backup.hasAudit) return { comparedTo, keptTo: comparedTo, different: undefined, missing: undefined };
  if (head.seq > 0) await indexStage(queries);
  const different = backup.verified ? await firstDifference(queries, stateKey, 0, head.seq) : undefined;
  const imports = isImported(head, backup, different);
  const missing = imports ? await stageMissing(queries, stateKey, 'restore') : undefined;
  if (!truncate || !backup.verified || imports) return { comparedTo, keptTo: comparedTo, different, missing };
  const lastSeq = backup.manifest.audit_head.seq;
  await assertRecoverable(queries, stateKey, lastSeq);
  return { comparedTo, keptTo: Math.min(lastSeq, comparedTo), different, missing };
}

/** Plans the change of the trail at the head `live`. Throws `audit_entry_too_large`. */
export async function planTrail(
  queries: Queries,
  { stateKey, truncate }: TrailTarget,
  live: AuditHead,
  backup: CheckedBackup,
  compared: TrailComparison,
): Promise<TrailPlan> {
  const nothing = unchangedTrail(live);
  if (!backup.hasAudit) return nothing;
  let { different } = compared;
  if (backup.verified) different ??= await firstDifference(queries, stateKey, compared.comparedTo, live.seq);
  if (!backup.verified || isImported(live, backup, different)) {
    const missing = compared.missing ?? (await stageMissing(queries, stateKey, 'restore'));
    const beyond = live.seq + 1;
    const partedAt = backup.verified
      ? (different ?? Math.min(backup.manifest.audit_first?.seq ?? beyond, beyond))
      : null;
    return { ...nothing, import: missing, partedAt };
  }
  const { audit_head: head } = backup.manifest;
  if (head.seq > live.seq) {
    await assertNotRepeated(queries, stateKey, live);
    return { ...nothing, adopt: head.seq - live.seq, base: head };
  }
  if (!truncate) return nothing;
  await assertRecoverable(queries, stateKey, Math.max(head.seq, compared.comparedTo));
  return { ...nothing, replace: live.seq - head.seq, base: head };
}

export function unchangedTrail(live: AuditHead): TrailPlan {
  return { adopt: 0, import: 0, replace: 0, partedAt: null, base: live };
}

/**
 * Returns whether the backup's entries must be imported instead of adopted: the trails differ, or the entries are
 * unverified or begin after a gap.
 */
function isImported(live: AuditHead, backup: CheckedBackup, different: number | undefined): boolean {
  if (!backup.verified || different !== undefined) return true;
  const { audit_first: first, audit_head: head } = backup.manifest;
  if (first === null || head.seq <= live.seq || first.seq <= live.seq) return false;
  return first.seq !== live.seq + 1 || first.previous_hash !== live.hash;
}

/** Throws if a partial trail repeats an id of earlier live entries. No other check detects such a forgery. */
async function assertNotRepeated(queries: Queries, stateKey: string, live: AuditHead): Promise<void> {
  if (live.seq === 0) return;
  const first = await queries.firstRow<{ position: number; seq: number; member: string }>(
    `select position, s.seq, 'event_id' as member
       from loom_stage_audit s join loom_audit a on a.state_key = $1 and a.seq <= $2 and a.event_id = s.event_id
      where s.seq > $2
      union all
     select position, s.seq, 'idempotency_key'
       from loom_stage_audit s join loom_audit a on a.state_key = $1 and a.seq <= $2 and a.idempotency_key = s.idempotency_key
      where s.seq > $2
      order by position, member limit 1`,
    [stateKey, live.seq],
  );
  if (first !== undefined) throw repeatedMember('/backup', first.position, first.seq, first.member);
}

/**
 * Returns the first seq after `after` and up to `upTo` at which the backup has an entry and the live trail has another
 * or none. Compares the entries as well as their hashes, to detect an entry that was edited by SQL.
 */
async function firstDifference(
  queries: Queries,
  stateKey: string,
  after: number,
  upTo: number,
): Promise<number | undefined> {
  if (upTo <= after) return undefined;
  const row = await queries.firstRow<{ seq: number | null }>(
    `select min(s.seq) as seq
       from loom_stage_audit s left join loom_audit a on a.state_key = $1 and a.seq = s.seq
      where s.seq > $2 and s.seq <= $3 and (a.hash is distinct from s.hash or a.entry is distinct from s.entry)`,
    [stateKey, after, upTo],
  );
  return row?.seq ?? undefined;
}

/**
 * Stages the entries that the live trail lacks, and returns their number. An entry inside `audit.import` entries, at
 * any depth, counts as present: an undo can bring back imports of imports. So a repeated restore imports nothing.
 * Throws `audit_entry_too_large`.
 */
export async function stageMissing(queries: Queries, stateKey: string, action: 'restore' | 'undo'): Promise<number> {
  await queries.execute('truncate loom_stage_missing');
  const missing = await queries.execute(
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
     select position from ${STAGED_LINES} s
      where not exists (
              select from loom_audit a
               where a.state_key = $1 and a.seq = s.seq and a.hash = s.hash and a.entry = s.entry)
        and not exists (select from imported i where i.sha256 = encode(loom_value_sha256(s.line), 'hex'))`,
    [stateKey],
  );
  await queries.execute('analyze loom_stage_missing');
  await assertImportable(queries, action);
  return missing;
}

/**
 * Bounds the entries of imports. An undo may go further than a restore, because it must bring back what one removed.
 */
const importBounds = {
  restore: { bytes: limits.maxImportedEntryBytes, depth: limits.maxAuditEntryDepth },
  undo: { bytes: limits.maxReadableEntryBytes, depth: limits.maxReadableEntryDepth },
} as const;

/** Throws if the import of a missing entry, which is larger and deeper than the entry, would exceed the bounds. */
async function assertImportable(queries: Queries, action: keyof typeof importBounds): Promise<void> {
  const large = await queries.firstRow<{ position: number; seq: number | null }>(
    `select position, seq from ${STAGED_LINES} staged join loom_stage_missing using (position)
      where ${isTooLargeToImport('line')} order by position limit 1`,
    importParameters(action),
  );
  if (large === undefined) return;
  const where = action === 'undo' ? {} : { pointer: `/backup/audit_entries/${large.position - 1}` };
  throw new LoomError(
    'audit_entry_too_large',
    `Audit entry ${large.seq ?? large.position} is too large or too deeply nested to be imported into another trail.`,
    { ...where, ...(large.seq === null ? {} : { seq: large.seq }) },
  );
}

/**
 * Throws if an undo could not import one of the live entries after `seq`. A truncating restore removes them and
 * promises that an undo brings them back, so it must not begin.
 */
async function assertRecoverable(queries: Queries, stateKey: string, seq: number): Promise<void> {
  const large = await queries.firstRow<{ seq: number }>(
    `select seq from loom_audit where state_key = $3 and seq > $4 and ${isTooLargeToImport('entry')} order by seq limit 1`,
    [...importParameters('undo'), stateKey, seq],
  );
  if (large === undefined) return;
  throw new LoomError(
    'audit_entry_too_large',
    `The restore would remove audit entry ${large.seq}, which is too large or too deeply nested for an undo to bring back. ` +
      'Restore without "truncate_audit".',
    { pointer: '/truncate_audit', seq: large.seq },
  );
}

const HASH_MEMBER = `"hash": "${GENESIS_HASH}", `;

/**
 * Returns the condition for an entry in `column` whose import would exceed $1 bytes or the path $2. Only a long text
 * can be deep, and the path is the expensive part.
 */
function isTooLargeToImport(column: 'line' | 'entry'): string {
  // The original inside an import has its hash, which an entry in the table has not.
  const bytes = column === 'line' ? 'octet_length(line::text)' : `octet_length(entry::text) + ${HASH_MEMBER.length}`;
  return `(${bytes} > $1 or (${bytes} > ${limits.maxAuditEntryDepth} and jsonb_path_exists(${column}, $2::text::jsonpath)))`;
}

function importParameters(action: keyof typeof importBounds): [bytes: number, path: string] {
  const { bytes, depth } = importBounds[action];
  return [bytes - limits.auditImportBytes, `$.**{${depth - limits.auditImportDepth}}`];
}
