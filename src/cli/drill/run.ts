/** The drill: its steps, what they check, and its report. It may import client/, file/ and terminal/, and asks the node over HTTP only. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { RestoreMembers } from '../../backup/format/request.ts';
import type { VerifiedBackup } from '../../backup/offline/verifier.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { NodeClient } from '../../http/client/client.ts';
import { NodeError } from '../../http/client/node-error.ts';
import { downloadTo, verifyFile } from '../client/download.ts';
import { withOwnOption } from '../client/own-options.ts';
import { openRestoreBody } from '../client/restore-body.ts';
import type { Progress } from '../terminal/progress.ts';
import { counted, quoted } from '../terminal/text.ts';
import {
  assertBackupIsOfTrail,
  assertChainValid,
  assertNothingLeft,
  assertOnlyRestored,
  assertPlanFits,
  assertRestoredFits,
  assertScratchChainFits,
  assertUntouched,
} from './checks.ts';
import { type DrillFacts, known } from './facts.ts';
import { createSteps, DrillFault, type StepsOptions } from './steps.ts';

export interface DrillOptions {
  /** Aborts its requests when the drill is stopped. */
  client: NodeClient;
  /** Cleans up and checks what is left. A stop does not abort it. */
  cleaner: NodeClient;
  /** The backup to use; undefined to take one from the node. */
  file: string | undefined;
  /** Another state key that `file` may have been made for. */
  acceptStateKey: string | undefined;
  /** Holds the downloads. The caller removes it. */
  folder: string;
  inPlace: boolean;
  progress: Progress;
  now: () => Date;
  steps: StepsOptions;
}

/** What the steps share. */
interface Drill extends DrillOptions {
  run: Steps['run'];
  skip: Steps['skip'];
  succeeded: Steps['succeeded'];
  facts: DrillFacts;
  /** The file of the backup. */
  path: string;
  /** Whether this drill took the backup. */
  isFresh: boolean;
}

type Steps = ReturnType<typeof createSteps>;

/** Runs all steps, whatever fails, and resolves with their results and what they found. */
export async function runDrill(options: DrillOptions) {
  const { file, folder, now } = options;
  const { results, ...steps } = createSteps(options.steps);
  const facts: DrillFacts = {
    before: undefined,
    backup: undefined,
    plan: undefined,
    restored: undefined,
    scratchKey: scratchKeyOf(now()),
    hasAskedForRestore: false,
  };
  const path = file ?? join(folder, 'backup.json');
  const drill = { ...options, ...steps, facts, path, isFresh: file === undefined };
  await takeBackup(drill);
  await tryRestore(drill);
  await checkChains(drill);
  await cleanUp(drill);
  return { results, facts };
}

async function takeBackup({ run, skip, facts, client, path, file, isFresh, progress, steps }: Drill): Promise<void> {
  await run('status', { needs: [] }, async () => {
    const status = await client.readStatus();
    facts.before = status;
    if (!status.ready.ok)
      throw new DrillFault(`The node is not ready: ${status.ready.reason ?? 'it gives no reason'}.`);
    return `version ${status.version}, state ${quoted(status.state_key)} at revision ${status.state.revision ?? '?'}`;
  });
  if (file !== undefined) skip('backup', `the file ${quoted(file)} was given`);
  else {
    await run('backup', { needs: ['status'] }, async () => {
      await downloadTo(path, client, {}, progress);
      return 'taken from the node';
    });
  }
  await run('verify', { needs: isFresh ? ['backup'] : [] }, async () => {
    const backup = await verifyFile(path, progress, steps.stop);
    facts.backup = backup;
    const entries = counted(backup.auditEntries, 'audit entry', 'audit entries');
    return `${counted(backup.documents, 'document')}, ${entries}, ${backup.bytes} bytes; every digest, count and hash matches`;
  });
}

async function tryRestore(drill: Drill): Promise<void> {
  const { run, facts, client, folder, inPlace, isFresh, progress, steps } = drill;
  await run('plan', { needs: ['status', 'verify'] }, async () => {
    facts.plan = await send(drill, { dry_run: true });
    return assertPlanFits(facts, { inPlace, isFresh });
  });
  await run('restore', { needs: ['plan'] }, async () => {
    facts.hasAskedForRestore = true;
    facts.restored = await send(drill, inPlace ? { expect_revision: known(facts.plan).based_on_revision } : {});
    const where = inPlace ? 'in place' : `into the scratch state ${quoted(facts.scratchKey)}`;
    return `${where}, at revision ${facts.restored.revision}`;
  });
  await run('compare', { needs: ['restore'] }, async () => {
    if (!inPlace) return assertRestoredFits(facts);
    const again = join(folder, 'again.json');
    await downloadTo(again, client, { includeAudit: false }, progress);
    return assertRestoredFits(facts, await verifyFile(again, progress, steps.stop));
  });
}

/** Sends the backup. `into_scratch` comes before it, so that the node locks that name instead of the live state. */
async function send(
  { client, facts, acceptStateKey, inPlace, path, progress }: Drill,
  members: RestoreMembers,
): Promise<RestoreReport> {
  const target = inPlace ? {} : { into_scratch: facts.scratchKey };
  const accepted = acceptStateKey === undefined ? {} : { accept_state_key: acceptStateKey };
  const all = { ...target, ...accepted, ...members };
  const { body, isGzip, totalBytes } = await openRestoreBody(path, all, progress.count);
  progress.begin(members.dry_run === true ? 'plan' : 'restore', totalBytes);
  return await client.restore(body, isGzip).catch((error: unknown) => {
    throw withOwnOption(error);
  });
}

async function checkChains({ run, facts, client, inPlace, file }: Drill): Promise<void> {
  await run('restored_chain', { needs: ['restore'] }, async () => {
    if (inPlace) return assertChainValid(await client.verifyAudit());
    return assertScratchChainFits(facts, await client.verifyAudit(facts.scratchKey));
  });
  await run('live_chain', { needs: ['status', 'verify'] }, async () => {
    const verdict = assertChainValid(await client.verifyAudit());
    return `${verdict}; ${await assertBackupIsOfTrail(facts, client, file)}`;
  });
}

async function cleanUp(drill: Drill): Promise<void> {
  const { run, skip, succeeded, facts, cleaner, inPlace, isFresh, steps } = drill;
  if (facts.hasAskedForRestore && !inPlace) {
    await run('remove', { needs: [], evenWhenStopped: true }, () =>
      removeScratch(cleaner, facts.scratchKey, succeeded('restore')),
    );
  } else {
    skip('remove', inPlace ? 'a drill in place makes none' : 'none was made');
  }
  await run('untouched', { needs: ['status'], evenWhenStopped: true }, async () => {
    if (inPlace) return await assertNothingLeft(facts, cleaner).then((after) => assertOnlyRestored(facts, after));
    // A stopped drill downloads nothing more. Status and audit trail have to suffice.
    const digest = isFresh && !steps.stop.aborted ? () => liveBackup(drill) : undefined;
    return await assertUntouched(facts, cleaner, digest);
  });
}

/** Takes and verifies a backup without the audit trail: the live state of now. */
async function liveBackup({ client, folder, progress, steps: { stop } }: DrillOptions): Promise<VerifiedBackup> {
  const path = join(folder, 'after.json');
  await downloadTo(path, client, { includeAudit: false }, progress);
  return await verifyFile(path, progress, stop);
}

/** Returns a unique key that explains itself in a listing, such as `drill-20260131T235959Z-3f9c1a`. */
function scratchKeyOf(time: Date): string {
  const stamp = time.toISOString().replace(/\.\d+/, '').replace(/[-:]/g, '');
  return `drill-${stamp}-${randomBytes(3).toString('hex')}`;
}

const REMOVE_ATTEMPTS = 30;
const REMOVE_PAUSE_MS = 1_000;

/** Drops the scratch state. An aborted restore may still lock the name for a moment, so a busy answer is retried. */
async function removeScratch(client: NodeClient, key: string, mustBeThere: boolean): Promise<string> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await client.dropScratch(key);
      return `${quoted(key)} was dropped`;
    } catch (error) {
      const code = error instanceof NodeError ? error.code : '';
      if (code === 'scratch_not_found' && !mustBeThere) return 'the restore left none behind';
      const isBusy = error instanceof NodeError && (error.status === 503 || code === 'restore_in_progress');
      if (!isBusy || attempt === REMOVE_ATTEMPTS) throw error;
      await wait(REMOVE_PAUSE_MS);
    }
  }
}
