import { selectedNameFault } from '../backup/check/selection.ts';
import type { RestoreReport } from '../domain/backup.ts';
import type { RestoreMembers } from '../domain/request.ts';
import { scratchKeyFault } from '../domain/state.ts';
import type { NodeClient } from '../http/client/client.ts';
import { limits } from '../limits.ts';
import { ACTOR_OPTION, createClientCommand } from './client/client-command.ts';
import { type BackupIdentity, identify, identifyBackup, readNodeIdentity, refuseForeign } from './client/identity.ts';
import { assertCanAsk, PLAN_OPTIONS, planAskAct } from './client/plan-ask-act.ts';
import { restoreQuestion, restoreText } from './client/plan-text.ts';
import { sendRestore, sendStoredRestore } from './client/restore-body.ts';
import type { CommandContext } from './command.ts';
import { readableBytes } from './file/file-fault.ts';
import { identitiesFor } from './file/identities.ts';
import { flag, type OptionTypes, type ParsedArguments, UsageError, valued, wholeNumber } from './terminal/arguments.ts';
import { mismatchMembers } from './terminal/fold-text.ts';
import { createProgress, type Progress } from './terminal/progress.ts';
import { quoted, shellQuoted } from './terminal/text.ts';

const options = {
  ...PLAN_OPTIONS,
  ...ACTOR_OPTION,
  from: valued('NAME', 'instead of FILE: restore this stored backup, which the command backups lists'),
  identity: valued('IDENTITY', 'file with the age key of an encrypted FILE (default: LOOM_BACKUP_IDENTITY_FILE)'),
  'keep-state': flag('leave the documents alone; add missing audit entries only'),
  'truncate-audit': flag('remove live audit entries after the last one of the backup'),
  'accept-state-key': valued('KEY', 'accept a backup that was made for this other state key'),
  'accept-unverified': flag('accept a backup without a manifest, which nothing proves complete'),
  'accept-instance': flag('with --yes: accept a backup that another instance made, or one of unknown origin'),
  document: {
    ...valued('NAME', 'restore only this document, or with * at the end all whose names begin so; may be repeated'),
    multiple: true,
  },
  'into-scratch': valued('NAME', 'restore into a new state beside the live one'),
  'expect-revision': valued('N', 'restore only if the live revision is N'),
} satisfies OptionTypes;

/** Restores a backup file: shows the plan, asks, and acts. */
export const restore = createClientCommand({
  name: 'restore',
  help: {
    summary: 'show the plan of a restore, ask, and restore a backup file, plain, gzip or encrypted',
    synopsis: 'FILE | --from NAME [options]',
    about:
      'Verifies FILE on this machine, shows what the node would do with it, asks, and restores it. With --from, the ' +
      'node reads and verifies a backup of its store instead. A restore happens completely or not at all, and undo ' +
      'reverses it.',
    examples: [
      'node dist/main.js restore loom-backup.json',
      'node dist/main.js restore loom-backup.json --dry-run --json',
      'node dist/main.js restore --from loom-default-20261125T225728.451Z-r17.json.gz',
    ],
  },
  options,
  operandCount: 'optional',
  run: async ({ operands: [path], client, config, ...input }) => {
    const { from, identity } = input.values;
    if (path !== undefined && from !== undefined)
      throw new UsageError('a FILE and --from NAME are given. Give one of them.');
    if (identity !== undefined && from !== undefined)
      throw new UsageError('--identity does not apply with --from: the node decrypts the backup.');
    assertCanAsk(input, 'restore');
    const members = membersOf(input.values);
    const progress = createProgress(input.context);
    const source = from === undefined ? await openFile(path, identity, input.context, progress) : openStored(from);
    const { verified } = source;
    const node = await readNodeIdentity(client, config.url);
    const accepted = input.values['accept-instance'] === true || members.into_scratch !== undefined;
    return await planAskAct(input, {
      word: 'restore',
      guardsRevision: members.expect_revision === undefined && members.into_scratch === undefined,
      send: (more) => source.send(client, { ...members, ...more }, progress).finally(progress.end),
      planText: (plan) => restoreText(plan, identify(plan, node, verified)),
      more: mismatchMembers(verified?.fold),
      doneText: (report) => `\nRestored.\n${restoreText(report)}${reversalText(report, config.url)}`,
      question: (plan) => restoreQuestion(plan, identify(plan, node, verified)),
      assertMayActUnasked: (plan) => {
        const identities = identify(plan, node, verified);
        if (identities.isForeign && !accepted) refuseForeign(identities);
      },
    });
  },
});

/** What to restore. */
interface Source {
  /** Undefined if only the node can say what it is. */
  verified: BackupIdentity | undefined;
  send(client: NodeClient, members: RestoreMembers, progress: Progress): Promise<RestoreReport>;
}

async function openFile(
  path: string | undefined,
  identity: string | undefined,
  context: CommandContext,
  progress: Progress,
): Promise<Source> {
  if (path === undefined) throw new UsageError('takes one file, or --from NAME for a stored backup.');
  const file = { path, identities: await identitiesFor(path, identity, context.env) };
  progress.begin('verify', await readableBytes(path));
  const verified = await identifyBackup(file, progress, context.stop).finally(progress.end);
  return { verified, send: (client, members) => sendRestore(client, file, members, progress) };
}

function openStored(from: string): Source {
  return {
    verified: undefined,
    send: (client, members, progress) => sendStoredRestore(client, { ...members, from }, progress),
  };
}

/** Returns the members of the request. With `into_scratch` first, the node locks that name, not the live state. */
function membersOf(values: ParsedArguments<typeof options>['values']): RestoreMembers {
  const revision = wholeNumber(values['expect-revision'], 'expect-revision', { min: 0 });
  const scratch = values['into-scratch'];
  if (scratch !== undefined) {
    const fault = scratchKeyFault(scratch);
    if (fault !== undefined) throw new UsageError(`--into-scratch ${fault}.`);
    if (revision !== undefined)
      throw new UsageError('--into-scratch makes a new state, so --expect-revision does not apply.');
    if (values['keep-state'] === true)
      throw new UsageError('--into-scratch makes a new state, so --keep-state does not apply.');
  }
  const documents = documentsOf(values);
  const stateKey = values['accept-state-key'];
  return {
    ...(scratch === undefined ? {} : { into_scratch: scratch }),
    replace_state: values['keep-state'] !== true,
    truncate_audit: values['truncate-audit'] === true,
    accept_unverified: values['accept-unverified'] === true,
    ...(stateKey === undefined ? {} : { accept_state_key: stateKey }),
    ...(revision === undefined ? {} : { expect_revision: revision }),
    ...(documents === undefined ? {} : { documents }),
  };
}

/** Refuses what the node would refuse, but before the whole file is sent. */
function documentsOf(values: ParsedArguments<typeof options>['values']): string[] | undefined {
  const { document: documents } = values;
  if (documents === undefined) return undefined;
  if (documents.length > limits.maxSelectedDocuments) {
    throw new UsageError(
      `--document is given ${documents.length} times; the maximum is ${limits.maxSelectedDocuments}.`,
    );
  }
  for (const name of documents) {
    const fault = selectedNameFault(name);
    if (fault !== undefined) throw new UsageError(`--document ${fault}.`);
  }
  const others = [
    ['keep-state', 'leaves the documents alone'],
    ['truncate-audit', 'changes the audit trail'],
    ['into-scratch', 'restores the whole backup'],
  ] as const;
  const other = others.find(([option]) => values[option] !== undefined && values[option] !== false);
  if (other === undefined) return documents;
  throw new UsageError(`--${other[0]} ${other[1]}, and --document restores only documents. Give one of them.`);
}

/** Returns the command that undoes the restore, or that drops its scratch state. */
function reversalText({ scratch, event_id: eventId }: RestoreReport, url: string): string {
  if (scratch !== null) {
    const route = `${new URL(url).href.replace(/\/+$/, '')}/v1/admin/persistence/scratch/${encodeURIComponent(scratch.state_key)}`;
    // A here-string of bash keeps the token out of the process list.
    const drop = `curl -gsS -X DELETE ${shellQuoted(route)} -H @- <<< "x-loom-admin-token: $LOOM_ADMIN_TOKEN"`;
    return `\nThe live state was left alone. To drop ${quoted(scratch.state_key)}:\n${drop}\n`;
  }
  const which = eventId === null ? '' : ` --event-id ${/^[\w-]+$/.test(eventId) ? eventId : shellQuoted(eventId)}`;
  return `\nTo undo it: node dist/main.js undo${which}\n`;
}
