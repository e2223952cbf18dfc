import { stat } from 'node:fs/promises';
import type { VerifiedBackup } from '../backup/offline/verifier.ts';
import { isLoomError, LoomError } from '../errors.ts';
import { createClientCommand } from './client/client-command.ts';
import { downloadBackup, verifyFile } from './client/download.ts';
import { toBackupMembers } from './file/backup-members.ts';
import { claimPartFile } from './file/part-file.ts';
import { UsageError, wholeNumber } from './terminal/arguments.ts';
import { createProgress } from './terminal/progress.ts';
import { counted, quoted, sizeText, table } from './terminal/text.ts';

/** Downloads a backup and verifies it, before it replaces an older one. Any failure leaves the file as it was. */
export const backup = createClientCommand({
  name: 'backup',
  help: {
    summary: 'take a verified backup of a node into a file, in one step',
    synopsis: '--out FILE [options]',
    about:
      'Downloads a backup into FILE.part, verifies it, and renames it to FILE. After any failure FILE is as it was before.',
    examples: [
      'node dist/main.js backup --out loom-backup.json',
      'node dist/main.js backup --out loom-backup.json.gz --gzip --json',
    ],
  },
  options: {
    out: { type: 'string', value: 'FILE', help: 'the file to write; only a verified backup replaces an older one' },
    gzip: { type: 'boolean', help: 'write the file as gzip' },
    'no-audit': { type: 'boolean', help: 'leave the audit trail out' },
    'audit-limit': { type: 'string', value: 'N', help: 'include only the last N entries of the audit trail' },
  },
  operandCount: 0,
  run: async ({ values, client, context }) => {
    const target = targetOf(values.out);
    const auditLimit = wholeNumber(values['audit-limit'], 'audit-limit', 1);
    const includeAudit = values['no-audit'] !== true;
    if (!includeAudit && auditLimit !== undefined)
      throw new UsageError('--no-audit and --audit-limit exclude each other.');
    await assertReplaceable(target);
    const progress = createProgress(context);
    const part = await claimPartFile(target);
    try {
      const query = { gzip: values.gzip === true, includeAudit, ...(auditLimit === undefined ? {} : { auditLimit }) };
      await downloadBackup(client, query, part.handle, progress);
      const verified = await verifyFile(part.path, progress, context.stop);
      const { size } = await part.handle.stat();
      context.stop.throwIfAborted();
      await part.keep();
      const json = { ok: true, backup: toBackupMembers(verified, target), file_bytes: size };
      return { exitCode: 0, text: textOf(target, verified, size), json };
    } catch (error) {
      throw withAdvice(error);
    } finally {
      progress.end();
      await part.drop();
    }
  },
});

function targetOf(out: string | undefined): string {
  if (out === undefined || out === '') throw new UsageError('--out FILE is missing.');
  if (out === '-') {
    throw new UsageError('--out takes the name of a file, and - is not one. For a pipe, ask the node with curl.');
  }
  return out;
}

/** Adds what to do when the node's own audit trail is broken. The download itself succeeded, and the documents need a backup. */
function withAdvice(error: unknown): unknown {
  if (!isLoomError(error) || error.code !== 'backup_chain_broken') return error;
  const advice =
    'The audit trail in the database is damaged or was tampered with: see GET /v1/audit/verify. Until the cause is known, back ' +
    'up the documents with --no-audit, and download one backup of everything with curl, as evidence.';
  return new LoomError(error.code, `${error.message} ${advice}`, { ...error.place, cause: error });
}

/** Refuses devices and directories: a rename would replace a device, and would fail at a directory after the whole download. */
async function assertReplaceable(target: string): Promise<void> {
  const found = await stat(target).catch(() => undefined);
  if (found !== undefined && !found.isFile()) throw new UsageError(`--out ${quoted(target)} is not a file.`);
}

function textOf(target: string, { header, manifest, ...verified }: VerifiedBackup, fileBytes: number): string {
  const { audit_head: head } = manifest;
  const packed = fileBytes === verified.bytes ? '' : `, ${sizeText(fileBytes)} packed`;
  const rows: [string, string][] = [
    ['verified', quoted(target)],
    ['state', `${quoted(header.state_key)} at revision ${header.revision}, exported ${header.exported_at}`],
    [
      'content',
      `${counted(verified.documents, 'document')}, ${counted(verified.auditEntries, 'audit entry', 'audit entries')}`,
    ],
    ['size', `${sizeText(verified.bytes)}${packed}`],
    ['audit head', `entry ${head.seq}, ${head.hash}`],
    ['sha256', `${manifest.sha256} (of the manifest: keep it elsewhere)`],
  ];
  return table(rows);
}
