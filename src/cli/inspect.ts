import { type BackupSummary, type SummaryEntry, summarizeBackup } from '../backup/offline/summary.ts';
import { createCommand } from './command.ts';
import { judged } from './failure.ts';
import { openNamedBackup, readableBytes } from './file/file-fault.ts';
import { readIdentities } from './file/identities.ts';
import { valued } from './terminal/arguments.ts';
import { createMeter, createProgress } from './terminal/progress.ts';
import { type Row, table } from './terminal/text.ts';

/** Shows what a backup file says about itself, without checking it. */
export const inspect = createCommand({
  name: 'inspect',
  help: {
    summary: 'show what is in a backup file, plain, gzip or encrypted, without checking it',
    synopsis: 'FILE [--identity IDENTITY] [--json]',
    about:
      'Shows header, sizes, counts and actions of a backup file. It checks nothing: use verify. It needs no configuration.',
    succeeds: 'the file could be read',
    fails: 'the file could not be read as a backup',
    isConfigured: false,
    examples: ['node dist/main.js inspect loom-backup.json', 'node dist/main.js inspect loom-backup.json.gz --json'],
  },
  options: {
    identity: valued('IDENTITY', 'file with the age key of an encrypted FILE (default: LOOM_BACKUP_IDENTITY_FILE)'),
  },
  operandCount: 1,
  run: async ({ values: { identity }, operands: [file = ''], context }) => {
    const progress = createProgress(context);
    progress.begin('inspect', await readableBytes(file));
    const identities = await readIdentities(identity, context.env);
    const open = await openNamedBackup(file, createMeter(context.stop, progress), { identities });
    const summary = await judged(file, 'not readable', () => summarizeBackup(open)).finally(progress.end);
    return { exitCode: 0, text: textOf(summary), json: jsonOf(file, summary) };
  },
});

function jsonOf(file: string, { frame, first, last, ...summary }: BackupSummary): object {
  const ends = (entry: SummaryEntry | undefined) =>
    entry === undefined ? null : { seq: entry.seq ?? null, time: timeOf(entry) ?? null };
  return {
    ok: true,
    file,
    header: frame.header,
    manifest: frame.manifest ?? null,
    bytes: summary.bytes,
    documents: summary.documents,
    document_bytes: summary.documentBytes,
    largest: summary.largest,
    audit_entries: summary.entries,
    audit_first: ends(first),
    audit_last: ends(last),
    actions: [...summary.actions].map(([action, count]) => ({ action, count })),
  };
}

function textOf(summary: BackupSummary): string {
  const { header, manifest } = summary.frame;
  const noManifest = 'none: the backup is incomplete, or another tool made it';
  const rows: Row[] = [
    ['state', `state key ${shown(header.state_key)}, epoch ${shown(header.epoch)}, revision ${shown(header.revision)}`],
    ['node', `instance ${shown(header.instance_id)}, schema ${shown(header.schema_version)}`],
    ['exported', shown(header.exported_at)],
    ['last changed', shown(header.state_updated_at)],
    ['size', `${summary.bytes} bytes of JSON`],
    ['documents', `${summary.documents}, ${summary.documentBytes} bytes`],
    ...summary.largest.map(({ name, bytes }): Row => ['', `${bytes} bytes  ${JSON.stringify(name)}`]),
    ['audit entries', trailText(summary)],
    ...[...summary.actions].map(([action, count]): Row => ['', `${count} × ${JSON.stringify(action)}`]),
    ['manifest', manifest === undefined ? noManifest : `sha256 ${shown(sha256Of(manifest))}`],
  ];
  return `${table(rows)}\nNothing was checked: use node dist/main.js verify.\n`;
}

function trailText({ entries, first, last }: BackupSummary): string {
  if (first === undefined || last === undefined) return 'none';
  const hasSeqs = first.seq !== undefined || last.seq !== undefined;
  const range = hasSeqs ? `, seq ${shown(first.seq)} to ${shown(last.seq)}` : '';
  return `${entries}${range}, from ${shown(timeOf(first))} to ${shown(timeOf(last))}`;
}

function timeOf({ recorded_at: recordedAt, timestamp }: SummaryEntry): unknown {
  return recordedAt ?? timestamp;
}

function sha256Of(manifest: unknown): unknown {
  return typeof manifest === 'object' && manifest !== null && 'sha256' in manifest ? manifest.sha256 : undefined;
}

/** Returns a plain string as it is, and anything else as JSON, which escapes control characters. */
function shown(value: unknown): string {
  if (value === undefined) return '(none)';
  return typeof value === 'string' && /^[\w.:+-]+$/.test(value) ? value : JSON.stringify(value).slice(0, 80);
}
