import { stat } from 'node:fs/promises';
import type { VerifiedBackup } from '../backup/offline/verifier.ts';
import type { BackupQuery, NodeClient } from '../http/client/client.ts';
import { createClientCommand } from './client/client-command.ts';
import { downloadBackup, verifyFile } from './client/download.ts';
import { withHint } from './client/hints.ts';
import type { CommandContext } from './command.ts';
import { warningText } from './failure.ts';
import { toBackupMembers } from './file/backup-members.ts';
import { claimPartFile } from './file/part-file.ts';
import { assertAlone, watchRun } from './stored/watch-run.ts';
import { flag, UsageError, valued, wholeNumber } from './terminal/arguments.ts';
import { mismatchMembers, mismatchWarning } from './terminal/fold-text.ts';
import { createProgress } from './terminal/progress.ts';
import { counted, quoted, sizeText, table } from './terminal/text.ts';

/** Says what to do if the node's audit trail is broken: the documents still need a backup. */
const ADVICE = {
  backup_chain_broken:
    'The audit trail in the database is damaged or was tampered with: see GET /v1/audit/verify. Until the cause is ' +
    'known, back up the documents with --no-audit, and download one backup of everything with curl, as evidence.',
};

/** Downloads a backup, verifies it, and only then replaces the file. */
export const backup = createClientCommand({
  name: 'backup',
  help: {
    summary: 'write a verified backup of a node to a file',
    synopsis: '--out FILE [options] | --now',
    about:
      'Downloads a backup into FILE.part, verifies it, and renames it to FILE. After a failure, FILE is as it ' +
      'was before. With --now, the node takes a backup into its store instead, and proves it.',
    examples: [
      'node dist/main.js backup --out loom-backup.json',
      'node dist/main.js backup --out loom-backup.json.gz --gzip --json',
      'node dist/main.js backup --now',
    ],
  },
  options: {
    out: valued('FILE', 'the file to write; only a verified backup replaces an older one'),
    gzip: flag('write the file as gzip'),
    'no-audit': flag('leave the audit trail out'),
    'audit-limit': valued('N', 'include only the last N entries of the audit trail'),
    now: flag('take a backup into the store of the node, wait until it is proven, and write no file'),
  },
  operandCount: 0,
  run: async ({ values, client, context }) => {
    if (values.now === true) {
      assertAlone('now', values);
      return await watchRun('backup', client, context, (seconds) => client.takeStoredBackup(seconds));
    }
    const target = targetOf(values.out);
    const auditLimit = wholeNumber(values['audit-limit'], 'audit-limit', { min: 1 });
    const includeAudit = values['no-audit'] !== true;
    if (!includeAudit && auditLimit !== undefined)
      throw new UsageError('--no-audit and --audit-limit exclude each other.');
    await assertReplaceable(target);
    const query = { gzip: values.gzip === true, includeAudit, ...(auditLimit === undefined ? {} : { auditLimit }) };
    const { verified, fileBytes } = await writeVerified(target, query, client, context);
    // A document that is not as the audit trail says is no reason to refuse the backup: it can be restored.
    const warning = mismatchWarning(verified.fold);
    if (warning !== undefined) {
      context.writeError(warningText('backup', warning.code, warning.place, warning.sentences));
    }
    const members = { backup: toBackupMembers(verified, target), file_bytes: fileBytes };
    const json = { ok: true, ...members, ...mismatchMembers(verified.fold) };
    return { exitCode: 0, text: textOf(target, verified, fileBytes), json };
  },
});

/** Downloads and verifies the backup in a part file, which then replaces the file. */
async function writeVerified(target: string, query: BackupQuery, client: NodeClient, context: CommandContext) {
  const progress = createProgress(context);
  const part = await claimPartFile(target);
  try {
    await downloadBackup(client, query, part.handle, progress);
    const verified = await withHint(ADVICE, verifyFile(part, progress, context.stop));
    const { size: fileBytes } = await part.handle.stat();
    context.stop.throwIfAborted();
    await part.keep();
    return { verified, fileBytes };
  } finally {
    progress.end();
    await part.drop();
  }
}

function targetOf(out: string | undefined): string {
  if (out === undefined || out === '')
    throw new UsageError(
      '--out FILE is missing: the name of the file to write. Or give --now, for the store of the node.',
    );
  if (out === '-') {
    throw new UsageError('--out takes the name of a file, not -. To write to a pipe, download the backup with curl.');
  }
  return out;
}

/** Refuses devices, which a rename would replace, and directories, on which it would fail after the download. */
async function assertReplaceable(target: string): Promise<void> {
  const found = await stat(target).catch(() => undefined);
  if (found !== undefined && !found.isFile()) throw new UsageError(`--out ${quoted(target)} is not a file.`);
}

function textOf(target: string, { header, manifest, ...verified }: VerifiedBackup, fileBytes: number): string {
  const { audit_head: head } = manifest;
  const packed = fileBytes === verified.bytes ? '' : `, ${sizeText(fileBytes)} packed`;
  return table([
    ['verified', quoted(target)],
    ['state', `${quoted(header.state_key)} at revision ${header.revision}, exported ${header.exported_at}`],
    ['content', `${counted(verified.documents, 'document')}, ${counted(verified.auditEntries, 'audit entry')}`],
    ['size', `${sizeText(verified.bytes)}${packed}`],
    ['audit head', `entry ${head.seq}, ${head.hash}`],
    ['sha256', `${manifest.sha256} (of the manifest: keep it elsewhere)`],
  ]);
}
