import { stat } from 'node:fs/promises';
import type { VerifiedBackup } from '../backup/offline/verifier.ts';
import { isLoomError, LoomError } from '../errors.ts';
import { createClientCommand, wholeNumber } from './client/client-command.ts';
import { downloadBackup, verifyFile } from './client/download.ts';
import { claimPartFile } from './file/part-file.ts';
import { createProgress } from './terminal/progress.ts';
import { counted, quoted, sizeText, table } from './terminal/text.ts';
import { UsageError } from './terminal/usage.ts';

/** Takes a backup that is verified before it replaces the one before it. Whatever fails, the file stays as it was. */
export const backup = createClientCommand({
  name: 'backup',
  summary: 'take a verified backup of a node into a file, in one step',
  synopsis: '--out FILE [options]',
  help:
    '  --out FILE             where to; an older backup there is replaced by a whole and verified one only\n' +
    '  --gzip                 keep it packed\n' +
    '  --no-audit             without the audit trail\n' +
    '  --audit-limit N        only the last N entries of the audit trail\n',
  options: {
    out: { type: 'string' },
    gzip: { type: 'boolean' },
    'no-audit': { type: 'boolean' },
    'audit-limit': { type: 'string' },
  },
  operands: 0,
  run: async (values, _operands, { client, context }) => {
    const target = values.out;
    if (target === undefined || target === '') throw new UsageError('--out FILE is missing.');
    if (target === '-') {
      throw new UsageError('--out takes the name of a file, and - is none. For a pipe, ask the node with curl.');
    }
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
      progress.end();
      context.write(textOf(target, verified, size));
      return 0;
    } catch (error) {
      throw withAdvice(error);
    } finally {
      progress.end();
      await part.drop();
    }
  },
});

/** The file came over well: it is the node's own trail that is broken, and the documents must be saved all the same. */
function withAdvice(error: unknown): unknown {
  if (!isLoomError(error) || error.code !== 'backup_chain_broken') return error;
  const advice =
    'The audit trail in the database has been tampered with or damaged: see GET /v1/audit/verify. Until that is understood, take ' +
    'backups of the documents with --no-audit, and one of everything with curl, as evidence.';
  return new LoomError(error.code, `${error.message} ${advice}`, { ...error.place, cause: error });
}

/** A rename would put a file in the place of a device, or fail at a directory only after the whole download. */
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
      'holds',
      `${counted(verified.documents, 'document')}, ${counted(verified.auditEntries, 'audit entry', 'audit entries')}`,
    ],
    ['size', `${sizeText(verified.bytes)}${packed}`],
    ['audit head', `entry ${head.seq}, ${head.hash}`],
    ['sha256', `${manifest.sha256} (of the manifest: keep it elsewhere)`],
  ];
  return table(rows);
}
