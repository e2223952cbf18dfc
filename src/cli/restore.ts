import type { RestoreMembers } from '../backup/format/request.ts';
import { verifyBackup } from '../backup/offline/verifier.ts';
import type { RestoreReport } from '../domain/backup.ts';
import { scratchKeyFault } from '../domain/state.ts';
import { isLoomError } from '../errors.ts';
import type { NodeClient } from '../http/client/client.ts';
import { CURRENT_SCHEMA_VERSION } from '../persistence/schema/schema.ts';
import { assertCanAsk, createClientCommand, wholeNumber } from './client/client-command.ts';
import { planAskAct } from './client/confirmed.ts';
import { withOwnOption } from './client/own-options.ts';
import { restoreText } from './client/plan-text.ts';
import { openRestoreBody } from './client/restore-body.ts';
import { openNamedBackup } from './file/file-fault.ts';
import { createProgress, type Progress } from './terminal/progress.ts';
import { quoted, shellQuoted } from './terminal/text.ts';
import { UsageError } from './terminal/usage.ts';

const options = {
  yes: { type: 'boolean' },
  'dry-run': { type: 'boolean' },
  'keep-state': { type: 'boolean' },
  'truncate-audit': { type: 'boolean' },
  'accept-state-key': { type: 'string' },
  'accept-unverified': { type: 'boolean' },
  'into-scratch': { type: 'string' },
  'expect-revision': { type: 'string' },
} as const;

/** Restores a backup file: first the plan, then the question, then the deed. */
export const restore = createClientCommand({
  name: 'restore',
  summary: 'restore a backup file, plain or gzip: shows the plan, and asks',
  synopsis: 'FILE [options]',
  help:
    '  --yes                  do not ask\n' +
    '  --dry-run              only show the plan\n' +
    '  --keep-state           leave the documents alone; only bring in audit entries\n' +
    '  --truncate-audit       take live audit entries after the backup’s last out of the trail\n' +
    '  --accept-state-key KEY take a backup that was made for this other state key\n' +
    '  --accept-unverified    take a backup without manifest, of which nobody can tell whether it is whole\n' +
    '  --into-scratch NAME    restore into a new state beside the living one\n' +
    '  --expect-revision N    only if the live revision is N\n',
  options,
  operands: 1,
  run: async (values, [path = ''], { client, config, context }) => {
    if (values['dry-run'] !== true) assertCanAsk(context, values.yes, 'restore without asking');
    const members = membersOf(values);
    const progress = createProgress(context);
    progress.begin('verify');
    await assertOneBackup(path).finally(progress.end);
    const send = (more: RestoreMembers): Promise<RestoreReport> =>
      sendFile(client, path, { ...members, ...more }, progress)
        .catch((error: unknown) => {
          throw withOwnOption(error);
        })
        .finally(progress.end);
    const report = await planAskAct({
      context,
      word: 'restore',
      hasYes: values.yes === true,
      isDryRun: values['dry-run'] === true,
      guards: members.expect_revision === undefined && members.into_scratch === undefined,
      plan: () => send({ dry_run: true }),
      act: (revision) => send(revision === undefined ? {} : { expect_revision: revision }),
      textOf: restoreText,
    });
    if (report !== undefined && !report.dry_run) {
      context.write(`\nRestored.\n${restoreText(report)}${wayBack(report, config.url)}`);
    }
    return report === undefined ? 1 : 0;
  },
});

/**
 * Throws what is wrong with the file, before any of it is sent. Of what only the node may judge, this still makes sure that it is
 * one JSON text: what stood behind it would be read as members of the request.
 */
async function assertOneBackup(path: string): Promise<void> {
  try {
    await verifyBackup(await openNamedBackup(path), { schemaVersion: CURRENT_SCHEMA_VERSION });
  } catch (error) {
    const isForNode = isLoomError(error) && ['backup_unverified', 'backup_schema_newer'].includes(error.code);
    if (!isForNode) throw error;
  }
}

async function sendFile(
  client: NodeClient,
  path: string,
  members: RestoreMembers,
  progress: Progress,
): Promise<RestoreReport> {
  const isPlan = members.dry_run === true;
  let sent = 0;
  const { body, isGzip, totalBytes } = await openRestoreBody(path, members, (bytes) => {
    sent += bytes;
    progress.count(bytes);
    if (sent >= totalBytes) progress.begin(isPlan ? 'the node checks and plans' : 'the node checks and applies');
  });
  progress.begin(isPlan ? 'plan' : 'restore', totalBytes);
  return await client.restore(body, isGzip);
}

type Values = { [Name in keyof typeof options]?: (typeof options)[Name]['type'] extends 'string' ? string : boolean };

/** `into_scratch` first: the node then locks that name, and not the live state. */
function membersOf(values: Values): RestoreMembers {
  const revision = wholeNumber(values['expect-revision'], 'expect-revision', 0);
  const scratch = values['into-scratch'];
  if (scratch !== undefined) {
    const fault = scratchKeyFault(scratch);
    if (fault !== undefined) throw new UsageError(`--into-scratch ${fault}.`);
    if (revision !== undefined)
      throw new UsageError('--into-scratch makes a new state: --expect-revision means nothing.');
    if (values['keep-state'] === true)
      throw new UsageError('--into-scratch makes a new state: --keep-state means nothing.');
  }
  const stateKey = values['accept-state-key'];
  return {
    ...(scratch === undefined ? {} : { into_scratch: scratch }),
    replace_state: values['keep-state'] !== true,
    truncate_audit: values['truncate-audit'] === true,
    accept_unverified: values['accept-unverified'] === true,
    ...(stateKey === undefined ? {} : { accept_state_key: stateKey }),
    ...(revision === undefined ? {} : { expect_revision: revision }),
  };
}

function wayBack({ scratch, event_id: eventId }: RestoreReport, url: string): string {
  if (scratch !== null) {
    const route = `${new URL(url).href.replace(/\/+$/, '')}/v1/admin/persistence/scratch/${encodeURIComponent(scratch.state_key)}`;
    const drop = `curl -gsS -X DELETE ${shellQuoted(route)} -H "x-loom-admin-token: $LOOM_ADMIN_TOKEN"`;
    return `\nThe live state was left alone. To drop ${quoted(scratch.state_key)}:\n${drop}\n`;
  }
  const which = eventId === null ? '' : ` --event-id ${eventId}`;
  return `\nTo undo it: node dist/main.js undo${which}\n`;
}
