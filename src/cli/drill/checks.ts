import type { VerifiedBackup } from '../../backup/offline/verifier.ts';
import type { AuditHead, AuditVerdict } from '../../domain/audit.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { StatusReport } from '../../domain/status.ts';
import type { NodeClient } from '../../http/client/client.ts';
import { counted, quoted } from '../terminal/text.ts';
import { type DrillFacts, DrillFault, known } from './steps.ts';

/** Asserts that the plan counts every document of the backup. With `mustEqualLive`, it must change no live document. */
export function assertPlanFits({ backup, plan }: DrillFacts, mustEqualLive: boolean): string {
  const { documents, dry_run: isPlan, warnings } = known(plan);
  if (!isPlan) throw new DrillFault('The node answered the dry run with the report of a restore.');
  const { added, changed, removed, unchanged } = documents;
  assertEqual('number of documents in the plan', added + changed + unchanged, known(backup).documents);
  const lost = added + changed + removed;
  if (mustEqualLive && lost > 0) {
    throw new DrillFault(
      `The state has changed since the backup was taken: a restore would revert ${counted(lost, 'document')}. Try again while nobody writes.`,
    );
  }
  const warned = warnings.length === 0 ? '' : `; the node warns: ${warnings.join(' ')}`;
  return `${added} to add, ${changed} to change, ${removed} to remove, ${unchanged} unchanged${warned}`;
}

/** Asserts that the backup comes from the instance whose live state a drill in place would replace. */
export function assertOwnInstance({ backup, plan }: DrillFacts): void {
  const { live }: Partial<RestoreReport> = known(plan);
  const found = live?.instance_id;
  const wanted = known(backup).header.instance_id;
  if (found === undefined || found === null || found === wanted) return;
  throw new DrillFault(
    `The backup comes from another instance: ${quoted(wanted)}, and that of the node is ${quoted(found)}. ` +
      'To restore it nevertheless, add --accept-instance.',
  );
}

/** Asserts that the restored state has the file's digest and count. A drill in place passes a second backup. */
export function assertRestoredFits({ backup, plan, restored }: DrillFacts, again?: VerifiedBackup): string {
  const wanted = known(backup);
  const report = known(restored);
  assertPlanKept(known(plan), report);
  const found = again === undefined ? report.scratch?.state_sha256 : again.manifest.state_sha256;
  assertEqual('digest of the documents', found, wanted.manifest.state_sha256);
  const { added, changed, unchanged } = report.documents;
  assertEqual('number of documents', again?.documents ?? added + changed + unchanged, wanted.documents);
  return `${counted(wanted.documents, 'document')} with the digest ${wanted.manifest.state_sha256}, as in the file`;
}

function assertPlanKept(plan: RestoreReport, report: RestoreReport): void {
  for (const member of ['added', 'changed', 'removed', 'unchanged'] as const) {
    assertEqual(`${member} documents, compared with the plan`, report.documents[member], plan.documents[member]);
  }
  for (const member of ['adopted', 'imported', 'replaced'] as const) {
    assertEqual(`${member} audit entries, compared with the plan`, report.audit[member], plan.audit[member]);
  }
}

export function assertChainValid(verdict: AuditVerdict): string {
  if (!verdict.ok) {
    const { first_bad_seq: seq, reason, detail } = verdict;
    const where =
      seq === null ? 'The audit trail does not match the state' : `The audit chain is broken at entry ${seq}`;
    throw new DrillFault(`${where} (${reason}): ${detail}`);
  }
  return `${counted(verdict.entries, 'valid entry')}, up to entry ${verdict.head.seq}, ${verdict.head.hash}`;
}

/** Asserts that the restored chain is valid, ends where the restore said, and has all entries of the backup. */
export function assertScratchChainFits({ backup, restored }: DrillFacts, verdict: AuditVerdict): string {
  const found = assertChainValid(verdict);
  const { manifest } = known(backup);
  const { audit, scratch } = known(restored);
  assertEqual('head of the restored chain', headText(verdict.head), headText(scratch?.audit_head));
  assertEqual('head of the backup, as the node read it', headText(audit.backup_head), headText(manifest.audit_head));
  assertEqual('number of audit entries adopted or imported', audit.adopted + audit.imported, manifest.audit_entries);
  // Adopted entries keep their seq. Imports, of a partial trail, get seqs from 1. The restore's own entry is next, and
  // then the changes of documents that the backup's trail does not have.
  const last = audit.adopted > 0 ? manifest.audit_head.seq : audit.imported;
  assertEqual("seq of the restore's own entry", Math.min(verdict.head.seq, last + 1), last + 1);
  return found;
}

/** Says whether the live trail has the backup's last entry. If not, throws unless the backup is a `file`. */
export async function assertBackupIsOfTrail(
  { backup }: DrillFacts,
  client: NodeClient,
  file?: string,
): Promise<string> {
  const { audit_head: head } = known(backup).manifest;
  if (head.seq === 0) return 'the backup was taken before the first entry';
  const found = await entryAt(client, head.seq);
  if (found?.hash === head.hash) return `it has entry ${head.seq}, the last one of the backup`;
  const fault = `entry ${head.seq}, the last one of the backup, ${found === undefined ? 'is not' : 'is a different one'} in the live trail`;
  if (file === undefined) throw new DrillFault(`${fault.replace('e', 'E')}.`);
  return (
    `BUT ${fault}: a restore may have removed or imported it, or the file has another history. ` +
    `To find out, take a backup and verify it --against ${quoted(file)}`
  );
}

/** Reads the status after the drill, and asserts that it does not list the drill's scratch state. */
export async function assertNothingLeft({ scratchKey }: DrillFacts, client: NodeClient): Promise<StatusReport> {
  const after = await client.readStatus();
  const isLeft = after.scratch_states?.some(({ state_key: key }) => key === scratchKey);
  if (isLeft === undefined) throw new DrillFault('Status does not list the scratch states.');
  if (isLeft) throw new DrillFault(`The scratch state ${quoted(scratchKey)} still exists.`);
  return after;
}

/**
 * Asserts that the drill did not change the live state. Others may write during a drill, so the revision may grow. The
 * epoch must stay, and the audit trail must continue without a restore or undo. At the same revision, the documents
 * must be the same. `backUp` takes another backup to compare with the first one; undefined if there is none.
 */
export async function assertUntouched(
  facts: DrillFacts,
  client: NodeClient,
  backUp: (() => Promise<VerifiedBackup>) | undefined,
): Promise<string> {
  const before = known(facts.before);
  const after = await assertNothingLeft(facts, client);
  assertEqual('live epoch', after.state.epoch, before.state.epoch);
  await assertTrailContinues(before, client);
  const { revision, epoch } = before.state;
  if (after.state.revision !== revision) {
    return `no restore, same epoch; others have committed meanwhile (revision ${revision} became ${after.state.revision})`;
  }
  assertEqual('number of live documents', after.state.documents, before.state.documents);
  assertEqual('size of the live documents', after.state.bytes, before.state.bytes);
  const same = `revision ${revision} and epoch ${epoch} as before`;
  const first = facts.backup;
  const last = first === undefined ? undefined : await backUp?.();
  if (last === undefined || last.header.revision !== first?.header.revision) return same;
  assertEqual('digest of the live documents', last.manifest.state_sha256, first.manifest.state_sha256);
  return `${same}, and the documents by their digest`;
}

/** Asserts that a drill in place changed the live state only by its restore. */
export function assertOnlyRestored({ restored, before }: DrillFacts, { state }: StatusReport): string {
  if (restored === undefined) {
    assertEqual('live epoch, after a drill that restored nothing', state.epoch, known(before).state.epoch);
    return 'nothing was restored, and the epoch is as before';
  }
  assertEqual('live epoch', state.epoch, restored.epoch);
  return `in place: revision ${state.revision ?? '?'}, and the epoch is that of the restore`;
}

async function assertTrailContinues({ audit: { head } }: StatusReport, client: NodeClient): Promise<void> {
  if (head === null) throw new DrillFault('Status does not show the head of the audit trail.');
  if (head.seq > 0) assertEqual(`hash of live entry ${head.seq}`, (await entryAt(client, head.seq))?.hash, head.hash);
  for (const action of ['restore', 'undo']) {
    const { entries } = await client.readAudit({ after: String(head.seq), action, limit: '1' });
    const [found] = entries;
    if (found !== undefined)
      throw new DrillFault(`The live trail has a new entry ${found.seq}: a ${action}, event ${found.event_id}.`);
  }
}

async function entryAt(client: NodeClient, seq: number) {
  const { entries } = await client.readAudit({ after: String(seq - 1), limit: '1' });
  return entries.find((entry) => entry.seq === seq);
}

function headText(head: AuditHead | null | undefined): string {
  return head === null || head === undefined ? 'unknown' : `entry ${head.seq}, ${head.hash}`;
}

function assertEqual(what: string, found: unknown, wanted: unknown): void {
  if (found !== wanted) throw new DrillFault(`The ${what}: found ${String(found)}, expected ${String(wanted)}.`);
}
