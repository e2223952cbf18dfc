import { createReadStream } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClientCommand } from './client/client-command.ts';
import { assertReplaceable, drillAnswer, KEPT, removeReport, summaryOf, writeReport } from './drill/report.ts';
import { type DrillTools, runDrill } from './drill/run.ts';
import { NotConfirmed } from './failure.ts';
import { openNamedBackup } from './file/file-fault.ts';
import { makeFolder } from './file/folder.ts';
import { identitiesFor } from './file/identities.ts';
import { writeWhole } from './file/part-file.ts';
import { assertAlone, watchRun } from './stored/watch-run.ts';
import { flag, UsageError, valued } from './terminal/arguments.ts';

/** Proves that a backup of a node can be restored. The exit code is 0 only if every step succeeded. */
export const drill = createClientCommand({
  name: 'drill',
  help: {
    summary: 'prove that a backup of a node can be restored, in a scratch state',
    synopsis: '[options]',
    about:
      'Takes a backup, verifies it, restores it into a scratch state, compares the two, and removes the scratch ' +
      'state. It prints a summary, and writes report.json and summary.md with --out. It leaves the live state ' +
      'alone, unless --in-place is given. With --from, the node does all this with a backup of its store.',
    succeeds: 'every step succeeded: the backup can be restored',
    partly: 'only with --from: the stored bytes are as written, but the node has no key to prove more',
    fails: 'a step failed, the drill was interrupted, or it was not confirmed',
    examples: [
      'node dist/main.js drill --out drills/today',
      'node dist/main.js drill --file loom-backup.json.gz --json',
      'node dist/main.js drill --from loom-default-20261125T225728.451Z-r17.json.gz',
    ],
  },
  options: {
    file: valued('BACKUP', 'use this backup, plain, gzip or encrypted, instead of taking one'),
    identity: valued('IDENTITY', 'file with the age key of an encrypted BACKUP (default: LOOM_BACKUP_IDENTITY_FILE)'),
    from: valued('NAME', 'let the node prove this stored backup, which the command backups lists; no other option'),
    'accept-state-key': valued('KEY', 'with --file: accept a backup that was made for this other state key'),
    'accept-instance': flag('with --in-place: accept a backup that another instance made, or one of unknown origin'),
    out: valued('DIR', 'write report.json and summary.md into this folder'),
    keep: flag('with --out: keep the backup that the drill took, as DIR/backup.json'),
    'in-place': flag('restore into the live state instead of a scratch state'),
    yes: flag('with --in-place: do not ask'),
  },
  operandCount: 0,
  run: async ({ values, ...tools }) => {
    const { from } = values;
    if (from !== undefined) {
      assertAlone('from', values);
      const { client, context } = tools;
      return await watchRun('drill', client, context, (seconds) => client.drillStoredBackup(from, seconds));
    }
    const { file, identity, out, keep = false, yes = false } = values;
    const { 'in-place': inPlace = false, 'accept-state-key': acceptStateKey } = values;
    const { 'accept-instance': acceptInstance = false } = values;
    if (keep && file !== undefined)
      throw new UsageError('--keep does not apply with --file: the drill takes no backup.');
    if (keep && out === undefined) throw new UsageError('--keep needs --out DIR: the folder for the backup.');
    if (yes && !inPlace) throw new UsageError('--yes needs --in-place: no other drill asks.');
    if (acceptInstance && !inPlace)
      throw new UsageError('--accept-instance needs --in-place: no other drill changes the live state.');
    if (acceptStateKey !== undefined && file === undefined)
      throw new UsageError('--accept-state-key needs --file: a backup that the drill takes has the right key.');
    if (identity !== undefined && file === undefined)
      throw new UsageError('--identity needs --file: a backup that the drill takes is not encrypted.');
    const identities = file === undefined ? undefined : await identitiesFor(file, identity, tools.context.env);
    if (file !== undefined) await openNamedBackup(file, undefined, { identities });
    if (out !== undefined) await assertReplaceable(out, keep);
    if (inPlace && !yes) await confirmInPlace(tools);
    if (out !== undefined) {
      await makeFolder(out);
      // Remove the earlier report first: it would mislead if this drill could not write its own.
      await removeReport(out);
    }
    const folder = await mkdtemp(join(out ?? tmpdir(), '.loom-drill-'));
    try {
      const report = await runDrill({ file, identities, acceptStateKey, acceptInstance, folder, inPlace }, tools);
      if (out !== undefined) {
        if (keep && report.backup !== null) await writeWhole(join(out, KEPT), createReadStream(join(folder, KEPT)));
        await writeReport(out, report);
      }
      return { exitCode: report.ok ? 0 : 1, text: summaryOf(report), json: drillAnswer(report) };
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  },
});

async function confirmInPlace({ context, config }: DrillTools): Promise<void> {
  if (context.ask === undefined) {
    throw new UsageError('there is no terminal to ask on: a drill in place replaces the live state, so pass --yes.');
  }
  const answer = await context.ask(`This replaces the live state of ${config.url}. Type restore to continue: `);
  if (answer.trim() !== 'restore') throw new NotConfirmed();
}
