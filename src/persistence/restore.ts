import type { Readable } from 'node:stream';
import type { Pool, PoolClient } from 'pg';
import { type CheckedRequest, checkRequest } from '../backup/check.ts';
import type { AuditHead } from '../domain/audit.ts';
import type { RestoreReport } from '../domain/backup.ts';
import type { OperationContext, RunningOperation } from '../domain/store.ts';
import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import { cutConnection } from './copy.ts';
import { createEpoch, createEventId } from './event-id.ts';
import { appendRestoreEntry, applyAudit, applyDocuments } from './restore-apply.ts';
import { checkStage } from './restore-check.ts';
import { type AuditPlan, type DocumentsPlan, firstDifference, planAudit, planDocuments } from './restore-plan.ts';
import { stageBackup } from './restore-stage.ts';
import { CURRENT_SCHEMA_VERSION } from './schema.ts';
import { inTransaction } from './transaction.ts';

export interface RestoreTarget {
  stateKey: string;
  /** Counted up while the body arrives. */
  progress: RunningOperation;
}

/** Keeps the advisory locks of restores apart from all others; spells "rest" in ASCII. */
const RESTORE_LOCK = 0x72_65_73_74;

/**
 * Restores the backup in `body`, which is a whole restore request, in one transaction on one connection: decode and stage,
 * check everything, lock the state row, apply, commit. Until that commit nobody sees anything of it, and whatever fails
 * leaves the database exactly as it was. Rejects with the codes of the section "Backup and restore" of the catalogue,
 * and with those of the scanner.
 */
export async function restore(
  pool: Pool,
  body: Readable,
  { stateKey, progress }: RestoreTarget,
  { requestId, signal }: OperationContext,
): Promise<RestoreReport> {
  // While it waits for a connection nobody reads it; whoever reads it is told as well.
  body.on('error', () => undefined);
  return inTransaction(pool, 'write', async (client) => {
    const cut = () => {
      cutConnection(client);
      body.destroy(givenUp());
    };
    signal.addEventListener('abort', cut, { once: true });
    try {
      if (signal.aborted) throw givenUp();
      await lockRestores(client, stateKey);
      await assertSchemaServes(client);
      const decoded = await stageBackup(client, body, progress);
      if (decoded.request.dry_run === true) progress.kind = 'plan';
      const request = checkRequest(decoded, { stateKey, schemaVersion: CURRENT_SCHEMA_VERSION });
      await checkStage(client, request.backup);
      return await planAndApply(client, stateKey, request, requestId);
    } finally {
      signal.removeEventListener('abort', cut);
    }
  });
}

function givenUp(): LoomError {
  return new LoomError('client_gone', 'The client went away before the restore was done.');
}

async function lockRestores(client: PoolClient, stateKey: string): Promise<void> {
  const { rows } = await client.query<{ locked: boolean }>(
    'select pg_try_advisory_xact_lock(hashtextextended($1, $2)) as locked',
    [stateKey, RESTORE_LOCK],
  );
  if (rows[0]?.locked === true) return;
  throw new LoomError('restore_in_progress', `Another restore of state ${JSON.stringify(stateKey)} is under way.`, {
    retryAfterSeconds: 5,
  });
}

async function assertSchemaServes(client: PoolClient): Promise<void> {
  const { rows } = await client.query(
    `select from loom_meta where key = 'schema_compatible_from' and value::int <= $1`,
    [CURRENT_SCHEMA_VERSION],
  );
  if (rows.length > 0) return;
  throw new LoomError('schema_ahead', 'The database has a newer schema, which this node must not write to.');
}

interface LiveState {
  epoch: string;
  revision: number;
  head: AuditHead;
}

interface Plan {
  live: LiveState;
  documents: DocumentsPlan;
  audit: AuditPlan;
  revision: number;
  epoch: string;
}

async function planAndApply(
  client: PoolClient,
  stateKey: string,
  request: CheckedRequest,
  requestId: string,
): Promise<RestoreReport> {
  const { options, backup } = request;
  // Entries are only ever appended, but for a restore, and there is no other one: most of the trail is compared before
  // anybody has to wait for it.
  const { seq: comparedTo } = (await readLive(client, stateKey, '')).head;
  const early = await firstDifference(client, stateKey, { after: 0, upTo: comparedTo });
  // From here on commits of others wait. A dry run reads the same without making anyone wait.
  const live = await readLive(client, stateKey, options.dryRun ? '' : 'for no key update');
  // The body may have taken hours to arrive, and somebody may have migrated meanwhile.
  await assertSchemaServes(client);
  if (options.expectRevision !== undefined && options.expectRevision !== live.revision) {
    throw new LoomError(
      'revision_mismatch',
      `The live revision is ${live.revision}, and "expect_revision" is ${options.expectRevision}.`,
      { pointer: '/expect_revision' },
    );
  }
  const late = { after: comparedTo, upTo: live.head.seq };
  const different = early ?? (await firstDifference(client, stateKey, late));
  const plan: Plan = {
    live,
    documents: options.replaceState ? await planDocuments(client, stateKey) : untouched,
    audit: planAudit(live.head, backup, { truncate: options.truncateAudit, different }),
    revision: Math.max(live.revision, backup.header.revision) + 1,
    epoch: options.replaceState ? createEpoch() : live.epoch,
  };
  const report = reportOf(plan, request);
  if (options.dryRun) return report;
  return apply(client, stateKey, plan, request, report, requestId);
}

const untouched: DocumentsPlan = {
  counts: { added: 0, changed: 0, removed: 0, unchanged: 0 },
  names: { added: [], changed: [], removed: [], truncated: false },
};

async function readLive(client: PoolClient, stateKey: string, lock: '' | 'for no key update'): Promise<LiveState> {
  await client.query(`select set_config('lock_timeout', $1, true)`, [String(limits.restoreLockTimeoutMs)]);
  const { rows } = await client.query<{ epoch: string; revision: number; seq: number; hash: string }>(
    `select epoch, revision, audit_seq as seq, encode(audit_hash, 'hex') as hash
       from loom_state where state_key = $1 ${lock}`,
    [stateKey],
  );
  const row = rows[0];
  if (row === undefined) throw new LoomError('starting', 'The state does not exist yet.', { retryAfterSeconds: 1 });
  return { epoch: row.epoch, revision: row.revision, head: { seq: row.seq, hash: row.hash } };
}

/** What the plan comes to; a dry run answers it as it is. */
function reportOf(plan: Plan, { options, backup }: CheckedRequest): RestoreReport {
  const warnings: string[] = [];
  if (backup.manifest.audit_included && backup.manifest.audit_entries < backup.manifest.audit_head.seq) {
    warnings.push('The backup holds the last entries of its audit trail only.');
  }
  if (!backup.manifest.audit_included) warnings.push('The backup holds no audit trail.');
  if (plan.audit.replace > 0) {
    warnings.push(`Live audit entries made after the backup are taken out of the trail: ${plan.audit.replace}.`);
  }
  return {
    dry_run: options.dryRun,
    restored_at: null,
    replaced_state: options.replaceState,
    truncated_audit: options.truncateAudit,
    imported_audit_count: plan.audit.adopt,
    replaced_audit_count: plan.audit.replace,
    verified: true,
    revision: plan.revision,
    epoch: options.dryRun && options.replaceState ? null : plan.epoch,
    based_on_revision: plan.live.revision,
    event_id: null,
    documents: plan.documents.counts,
    document_names: plan.documents.names,
    audit: { previous_head: plan.live.head, backup_head: backup.manifest.audit_head, head: null },
    warnings,
  };
}

async function apply(
  client: PoolClient,
  stateKey: string,
  plan: Plan,
  { options, backup }: CheckedRequest,
  report: RestoreReport,
  requestId: string,
): Promise<RestoreReport> {
  if (options.replaceState) await applyDocuments(client, stateKey, plan.revision);
  await applyAudit(client, stateKey, plan.live.head, plan.audit);
  const { header, manifest } = backup;
  const eventId = createEventId();
  const { head, recordedAt } = await appendRestoreEntry(client, {
    stateKey,
    linkTo: plan.audit.linkTo,
    eventId,
    revision: plan.revision,
    epoch: plan.epoch,
    requestId,
    restore: {
      replaced_state: options.replaceState,
      truncated_audit: options.truncateAudit,
      previous_revision: plan.live.revision,
      previous_epoch: plan.live.epoch,
      previous_head: plan.live.head,
      adopted_entries: plan.audit.adopt,
      replaced_entries: plan.audit.replace,
      documents: plan.documents.counts,
      document_names: plan.documents.names,
      backup: {
        instance_id: header.instance_id,
        state_key: header.state_key,
        epoch: header.epoch,
        revision: header.revision,
        exported_at: header.exported_at,
        state_sha256: manifest.state_sha256,
        sha256: manifest.sha256,
        head: manifest.audit_head,
      },
    },
  });
  return { ...report, restored_at: recordedAt, event_id: eventId, audit: { ...report.audit, head } };
}
