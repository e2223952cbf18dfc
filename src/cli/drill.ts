import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { createNodeClient } from '../http/client/client.ts';
import { type ClientTools, createClientCommand } from './client/client-command.ts';
import { backupMember, type DrillReport, removeReport, writeReport } from './drill/report.ts';
import { type DrillOptions, runDrill } from './drill/run.ts';
import { openNamedBackup } from './file/file-fault.ts';
import { makeFolder } from './file/folder.ts';
import { createProgress } from './terminal/progress.ts';
import { UsageError } from './terminal/usage.ts';

/** Proves that a backup of a node can be restored: exit code 0 only if every step held. */
export const drill = createClientCommand({
  name: 'drill',
  summary: 'prove that a backup of a node can be restored, beside the living state',
  synopsis: '[options]',
  help:
    '  --file BACKUP          try this backup, plain or gzip, instead of taking one\n' +
    '  --accept-state-key KEY with --file: take a backup that was made for this other state key\n' +
    '  --out DIR              where report.json and summary.md go; otherwise the current folder\n' +
    '  --keep                 keep the backup that was taken, as DIR/backup.json\n' +
    '  --in-place             restore into the living state, and not into a scratch state\n' +
    '  --yes                  with --in-place: do not ask\n',
  options: {
    file: { type: 'string' },
    'accept-state-key': { type: 'string' },
    out: { type: 'string' },
    keep: { type: 'boolean' },
    'in-place': { type: 'boolean' },
    yes: { type: 'boolean' },
  },
  operands: 0,
  run: async (values, _operands, tools) => {
    const { file, out = '.', keep = false, yes = false } = values;
    const { 'in-place': inPlace = false, 'accept-state-key': acceptStateKey } = values;
    if (keep && file !== undefined) throw new UsageError('--keep is for a backup that is taken; --file gives one.');
    if (yes && !inPlace)
      throw new UsageError('--yes means nothing without --in-place: no other drill changes anything.');
    if (acceptStateKey !== undefined && file === undefined)
      throw new UsageError(
        '--accept-state-key is for a backup that --file gives; one that is taken has the right key.',
      );
    if (file !== undefined) await openNamedBackup(file);
    if (inPlace && !(await mayGoOn(tools, yes))) return 1;
    await makeFolder(out);
    // Whatever becomes of this drill, nobody is to read the report of an earlier one as its own.
    await removeReport(out);
    const folder = await mkdtemp(join(out, '.loom-drill-'));
    try {
      const report = await runAndReport({ file, acceptStateKey, folder, inPlace }, tools);
      if (keep && report.backup !== null) await copyFile(join(folder, 'backup.json'), join(out, 'backup.json'));
      tools.context.write(await writeReport(out, report));
      return report.ok ? 0 : 1;
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
});

async function mayGoOn({ context, config }: ClientTools, hasYes: boolean): Promise<boolean> {
  if (hasYes) return true;
  if (context.ask === undefined) {
    throw new UsageError('there is no terminal to ask on: a drill in place replaces the living state, so pass --yes.');
  }
  const answer = await context.ask(`This replaces the living state of ${config.url}. Type restore to go on: `);
  if (answer.trim() === 'restore') return true;
  context.writeError('Nothing was changed.\n');
  return false;
}

async function runAndReport(
  what: Pick<DrillOptions, 'file' | 'acceptStateKey' | 'folder' | 'inPlace'>,
  { client, config, context }: ClientTools,
): Promise<DrillReport> {
  const progress = createProgress(context);
  const cleaner = createNodeClient(config);
  const startedAt = new Date();
  try {
    const { results, facts } = await runDrill({
      ...what,
      client,
      cleaner,
      progress,
      now: () => startedAt,
      steps: {
        stop: context.stop,
        nowMs: () => performance.now(),
        onBegin: (step) => progress.begin(step),
        onEnd: ({ step, outcome }) => {
          progress.end();
          if (context.isWatched) context.writeError(`${outcome.padEnd(7)} ${step}\n`);
        },
      },
    });
    const { before, backup, restored, scratchKey } = facts;
    const endedAt = new Date();
    return {
      drill_report_version: 1,
      ok: !context.stop.aborted && results.every(({ outcome }) => outcome !== 'failed'),
      url: config.url,
      in_place: what.inPlace,
      started_at: startedAt.toISOString(),
      ended_at: endedAt.toISOString(),
      duration_ms: endedAt.getTime() - startedAt.getTime(),
      node:
        before === undefined
          ? null
          : {
              version: before.version,
              state_key: before.state_key,
              revision: before.state.revision,
              epoch: before.state.epoch,
            },
      backup: backup === undefined ? null : backupMember(backup, what.file ?? null),
      restored:
        restored === undefined
          ? null
          : {
              scratch_key: what.inPlace ? null : scratchKey,
              documents: restored.documents.added + restored.documents.changed + restored.documents.unchanged,
              revision: restored.revision,
              state_sha256: restored.scratch?.state_sha256 ?? null,
              audit_head: restored.scratch?.audit_head ?? restored.audit.head,
            },
      steps: results,
    };
  } finally {
    await cleaner.close();
  }
}
