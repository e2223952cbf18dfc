/** The drill over HTTP: its steps, checks and report. It may import backup, domain, errors, http/client and cli. */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import type { VerifiedBackup } from '../../backup/offline/verifier.ts';
import type { RestoreMembers } from '../../domain/request.ts';
import { createNodeClient, type NodeClient } from '../../http/client/client.ts';
import { NodeError } from '../../http/client/node-error.ts';
import type { ClientTools } from '../client/client-command.ts';
import { downloadBackup, verifyFile } from '../client/download.ts';
import { sendRestore } from '../client/restore-body.ts';
import { whileWatched } from '../client/watch.ts';
import type { CommandContext } from '../command.ts';
import { createProgress, type Progress } from '../terminal/progress.ts';
import { counted, quoted } from '../terminal/text.ts';
import {
  assertBackupIsOfTrail,
  assertChainValid,
  assertNothingLeft,
  assertOnlyRestored,
  assertOwnInstance,
  assertPlanFits,
  assertRestoredFits,
  assertScratchChainFits,
  assertUntouched,
} from './checks.ts';
import { createReport, type DrillReport } from './report.ts';
import { createSteps, type DrillFacts, DrillFault, known } from './steps.ts';

interface DrillTarget {
  /** The backup to use; undefined to take one from the node. */
  file: string | undefined;
  /** The secret keys that decrypt `file`. */
  identities: readonly string[] | undefined;
  /** Another state key that `file` may have. */
  acceptStateKey: string | undefined;
  /** Whether a drill in place may use a backup that another instance made. */
  acceptInstance: boolean;
  /** The folder for downloads, which the caller removes. */
  folder: string;
  inPlace: boolean;
}

interface Drill extends DrillTarget, ReturnType<typeof createSteps> {
  client: NodeClient;
  /** The client for the clean-up and the last checks. A stop does not abort its requests. */
  cleaner: NodeClient;
  progress: Progress;
  stop: AbortSignal;
  facts: DrillFacts;
  path: string;
  /** Whether this drill took the backup. */
  isFresh: boolean;
}

export type DrillTools = ClientTools & { context: CommandContext };

/** Runs all steps and resolves with the report, even if a step fails. */
export async function runDrill(target: DrillTarget, { client, config, context }: DrillTools): Promise<DrillReport> {
  const { file, folder } = target;
  const { stop } = context;
  const startedAt = new Date();
  const progress = createProgress(context);
  const steps = createSteps(context, progress);
  const facts: DrillFacts = { scratchKey: scratchKeyOf(startedAt), hasAskedForRestore: false };
  const path = file ?? join(folder, 'backup.json');
  const cleaner = createNodeClient(config);
  const drill = { ...target, ...steps, client, cleaner, progress, stop, facts, path, isFresh: file === undefined };
  try {
    await takeBackup(drill);
    await tryRestore(drill);
    await checkChains(drill);
    await cleanUp(drill);
    return createReport(drill, config.url, startedAt, stop.aborted);
  } finally {
    await cleaner.close();
  }
}

async function takeBackup({
  run,
  skip,
  facts,
  client,
  path,
  identities,
  file,
  isFresh,
  progress,
  stop,
}: Drill): Promise<void> {
  await run('status', { needs: [] }, async () => {
    const status = await client.readStatus();
    facts.before = status;
    if (!status.ready.ok) throw new DrillFault(`The node is not ready: ${status.ready.reason ?? 'no reason given'}.`);
    return `version ${status.version}, state ${quoted(status.state_key)} at revision ${status.state.revision ?? '?'}`;
  });
  if (file !== undefined) skip('backup', `the file ${quoted(file)} was given`);
  else {
    await run('backup', { needs: ['status'] }, async () => {
      await downloadBackup(client, {}, path, progress);
      return 'taken from the node';
    });
  }
  await run('verify', { needs: isFresh ? ['backup'] : [] }, async () => {
    const backup = await verifyFile({ path, identities }, progress, stop);
    facts.backup = backup;
    const content = `${counted(backup.documents, 'document')}, ${counted(backup.auditEntries, 'audit entry')}`;
    const count = backup.fold?.mismatchCount ?? 0;
    const but =
      count === 0 ? '' : `, BUT documents are not as the audit trail says (${count}): run verify on the backup`;
    return `${content}, ${backup.bytes} bytes; every digest, count and hash matches${but}`;
  });
}

async function tryRestore(drill: Drill): Promise<void> {
  const { run, facts, inPlace, isFresh } = drill;
  await run('plan', { needs: ['status', 'verify'] }, async () => {
    facts.plan = await send(drill, { dry_run: true });
    if (inPlace && !drill.acceptInstance) assertOwnInstance(facts);
    // In place, a backup that was just taken must still equal the state.
    return assertPlanFits(facts, inPlace && isFresh);
  });
  await run('restore', { needs: ['plan'] }, async () => {
    facts.hasAskedForRestore = true;
    facts.restored = await send(drill, inPlace ? { expect_revision: known(facts.plan).based_on_revision } : {});
    const where = inPlace ? 'in place' : `into the scratch state ${quoted(facts.scratchKey)}`;
    return `${where}, at revision ${facts.restored.revision}`;
  });
  await run('compare', { needs: ['restore'] }, async () => {
    return assertRestoredFits(facts, inPlace ? await backUpState(drill, 'again.json') : undefined);
  });
}

/** Sends the backup. `into_scratch` comes before it, so that the node locks that name instead of the live state. */
function send({ client, facts, acceptStateKey, inPlace, path, identities, progress }: Drill, members: RestoreMembers) {
  const target = inPlace ? {} : { into_scratch: facts.scratchKey };
  const accepted = acceptStateKey === undefined ? {} : { accept_state_key: acceptStateKey };
  return sendRestore(client, { path, identities }, { ...target, ...accepted, ...members }, progress);
}

async function checkChains({ run, facts, client, inPlace, file, progress }: Drill): Promise<void> {
  const verify = (scratch?: string) =>
    whileWatched(client, progress, (requestId) => client.verifyAudit(scratch, requestId));
  await run('restored_chain', { needs: ['restore'] }, async () => {
    if (inPlace) return assertChainValid(await verify());
    return assertScratchChainFits(facts, await verify(facts.scratchKey));
  });
  await run('live_chain', { needs: ['status', 'verify'] }, async () => {
    const verdict = assertChainValid(await verify());
    return `${verdict}; ${await assertBackupIsOfTrail(facts, client, file)}`;
  });
}

async function cleanUp(drill: Drill): Promise<void> {
  const { run, skip, succeeded, facts, cleaner, inPlace, isFresh, stop } = drill;
  if (facts.hasAskedForRestore && !inPlace) {
    await run('remove', { needs: [], evenWhenStopped: true }, () =>
      removeScratch(cleaner, facts.scratchKey, succeeded('restore')),
    );
  } else {
    skip('remove', inPlace ? 'a drill in place creates no scratch state' : 'no scratch state was requested');
  }
  await run('untouched', { needs: ['status'], evenWhenStopped: true }, async () => {
    if (inPlace) return await assertNothingLeft(facts, cleaner).then((after) => assertOnlyRestored(facts, after));
    // A stopped drill takes no other backup. It compares only status and audit trail.
    const backUp = isFresh && !stop.aborted ? () => backUpState(drill, 'after.json') : undefined;
    return await assertUntouched(facts, cleaner, backUp);
  });
}

/** Takes and verifies a backup of the live state without the audit trail, in a new file with this name. */
async function backUpState({ client, folder, progress, stop }: Drill, name: string): Promise<VerifiedBackup> {
  const path = join(folder, name);
  await downloadBackup(client, { includeAudit: false }, path, progress);
  return await verifyFile({ path }, progress, stop);
}

/** Returns a unique key that shows its origin, such as `drill-20260131T235959Z-3f9c1a`. */
function scratchKeyOf(time: Date): string {
  const stamp = time.toISOString().replace(/\.\d+/, '').replace(/[-:]/g, '');
  return `drill-${stamp}-${randomBytes(3).toString('hex')}`;
}

const REMOVE_ATTEMPTS = 30;
const REMOVE_PAUSE_MS = 1_000;

/** Drops the scratch state. Retries if the node is busy: an aborted restore may still lock the name for a moment. */
async function removeScratch(client: NodeClient, key: string, mustExist: boolean): Promise<string> {
  for (let attempt = 1; ; attempt += 1) {
    try {
      await client.dropScratch(key);
      return `${quoted(key)} was dropped`;
    } catch (error) {
      const code = error instanceof NodeError ? error.code : '';
      if (code === 'scratch_not_found' && !mustExist) return 'the restore left no scratch state';
      const isBusy = error instanceof NodeError && (error.status === 503 || code === 'restore_in_progress');
      if (!isBusy || attempt === REMOVE_ATTEMPTS) throw error;
      await wait(REMOVE_PAUSE_MS);
    }
  }
}
