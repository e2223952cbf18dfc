/** Stored backups in commands: runs that are watched to their end. It may import domain, http/client and cli. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { BackupRun } from '../../domain/backup-run.ts';
import type { NodeClient } from '../../http/client/client.ts';
import { NodeError } from '../../http/client/node-error.ts';
import { withHint } from '../client/hints.ts';
import type { CommandContext, CommandResult } from '../command.ts';
import { failureMembers } from '../failure.ts';
import { UsageError } from '../terminal/arguments.ts';
import { createProgress, type Progress } from '../terminal/progress.ts';
import { labelled, quoted, type Row, table } from '../terminal/text.ts';

/** Shorter than the 60 s after which common proxies close a silent connection. */
const WAIT_SECONDS = 20;
const POLL_EVERY_MS = 1_000;
/** Bounds the time in which the node does not answer about its run. */
const MAX_FAILED_POLLS = 30;

/** Applies to every command. */
const common = ['url', 'json'];

/** Throws a UsageError if an option is given that means nothing with this one. */
export function assertAlone(option: string, values: Record<string, unknown>): void {
  const other = Object.entries(values).find(
    ([name, value]) => ![option, ...common].includes(name) && value !== undefined && value !== false,
  );
  if (other !== undefined) throw new UsageError(`--${other[0]} does not apply with --${option}.`);
}

/**
 * Begins a run on the node, waits until it has ended, and describes it. The exit code is 0 only if a restore has proven
 * the backup, and 2 if the node could compare only its bytes: a script must not take the one for the other.
 */
export async function watchRun(
  command: string,
  client: Pick<NodeClient, 'readRun'>,
  context: CommandContext,
  start: (waitSeconds: number) => Promise<BackupRun>,
): Promise<CommandResult> {
  const progress = createProgress(context);
  progress.begin('the node runs it');
  const hint = { interrupted: 'If the run has begun, it goes on: see the commands backups and status.' };
  const run = await withHint(hint, waitForEnd(client, context.stop, start, progress)).finally(progress.end);
  if (run.outcome === 'proven') return { exitCode: 0, text: runText(run), json: { ok: true, run } };
  if (run.outcome === 'verified') {
    const text = `${command} incomplete: not_proven\n${notProven}\n${runText(run)}`;
    return { exitCode: NOT_PROVEN_EXIT_CODE, text, json: { ...failureMembers('not_proven', notProven), run } };
  }
  const code = run.code ?? run.outcome;
  const json = { ...failureMembers(code, run.detail ?? afterAbandoned), run };
  return { exitCode: 1, text: `${command} failed: ${code}\n${runText(run)}`, json };
}

const NOT_PROVEN_EXIT_CODE = 2;

const notProven =
  'The stored bytes are those that were written, but the node has no key to decrypt and restore them. Set ' +
  'LOOM_BACKUP_IDENTITY_FILE on the node, or copy the backup and prove it with drill --file and --identity.';

const afterAbandoned = 'The node that ran it has died or was frozen. Another node takes over: see status.';

async function waitForEnd(
  client: Pick<NodeClient, 'readRun'>,
  stop: AbortSignal,
  start: (waitSeconds: number) => Promise<BackupRun>,
  progress: Progress,
): Promise<BackupRun> {
  let run = await startWhenFree(stop, start, progress);
  let failures = 0;
  while (run.outcome === 'running') {
    await pause(stop);
    try {
      run = await client.readRun(run.id);
      failures = 0;
    } catch (error) {
      failures += 1;
      // The node may restart, or its database may be away for a moment. The run itself goes on or is taken over.
      const isPassing = error instanceof NodeError && passing.has(error.code);
      if (!isPassing || failures > MAX_FAILED_POLLS) throw error;
    }
    if (run.name !== null) progress.note(quoted(run.name));
  }
  return run;
}

/** Begins the run as soon as the node has ended another one. */
async function startWhenFree(
  stop: AbortSignal,
  start: (waitSeconds: number) => Promise<BackupRun>,
  progress: Progress,
): Promise<BackupRun> {
  for (;;) {
    try {
      return await start(WAIT_SECONDS);
    } catch (error) {
      if (!(error instanceof NodeError) || error.code !== 'backup_running') throw error;
    }
    progress.note('after another run of this node');
    await pause(stop);
  }
}

/** Waits before the next request, which fails if the command was stopped meanwhile. */
async function pause(stop: AbortSignal): Promise<void> {
  await sleep(POLL_EVERY_MS, undefined, { signal: stop }).catch(() => undefined);
}

const passing: ReadonlySet<string> = new Set([
  'unreachable',
  'connection_cut',
  'timeout',
  'starting',
  'draining',
  'database_unavailable',
  'node_busy',
]);

/** Describes a run for people. */
export function runText(run: BackupRun): string {
  const { name, detail, code, restore_seconds: seconds } = run;
  // A node of an earlier version does not say it.
  const retryAt = run.retry_at ?? null;
  const restored = seconds === null ? '' : `, restored in ${seconds.toFixed(1)} s`;
  const rows: Row[] = [
    ['outcome', `${run.outcome}${restored}`],
    ['backup', name === null ? 'none' : quoted(name)],
    ['run', `${run.kind} ${run.id}, by ${quoted(run.node)}`],
    ['time', `${run.started_at} to ${run.ended_at ?? 'now'}`],
    ...labelled('because', [...(code === null ? [] : [code]), ...(detail === null ? [] : [detail])]),
    ...labelled('retry', retryAt === null ? [] : [`a node tries it again at ${retryAt}`]),
  ];
  return table(rows);
}
