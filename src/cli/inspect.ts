import { type BackupSummary, type SummaryEntry, summarizeBackup } from '../backup/offline/summary.ts';
import { createFileCommand } from './file/file-command.ts';
import { printable } from './terminal/text.ts';

/** Shows what is in a backup file. It believes what it reads: `verify` is what checks it. */
export const inspect = createFileCommand({
  name: 'inspect',
  summary: 'show what is in a backup file, plain or gzip, without checking it',
  report: async (open) => printable(textOf(await summarizeBackup(open))),
  verdict: 'not readable',
});

function textOf(summary: BackupSummary): string {
  const { header, manifest } = summary.frame;
  const rows: [string, string][] = [
    [
      'made of',
      `state key ${shown(header.state_key)}, epoch ${shown(header.epoch)}, revision ${shown(header.revision)}`,
    ],
    ['by', `instance ${shown(header.instance_id)}, schema ${shown(header.schema_version)}`],
    ['exported', shown(header.exported_at)],
    ['last changed', shown(header.state_updated_at)],
    ['size', `${summary.bytes} bytes of JSON`],
    ['documents', `${summary.documents}, ${summary.documentBytes} bytes`],
    ...summary.largest.map(({ name, bytes }): [string, string] => ['', `${bytes} bytes  ${JSON.stringify(name)}`]),
    ['audit entries', trailOf(summary)],
    ...[...summary.actions].map(([action, count]): [string, string] => ['', `${count} × ${JSON.stringify(action)}`]),
    [
      'manifest',
      manifest === undefined ? 'none: not whole, or of another tool' : `sha256 ${shown(sha256Of(manifest))}`,
    ],
  ];
  const lines = rows.map(([label, text]) => `${label.padEnd(14)} ${text}`);
  return `${lines.join('\n')}\n\nNothing was checked: node dist/main.js verify does that.\n`;
}

function trailOf({ entries, first, last }: BackupSummary): string {
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

/** Strings as they are if they are harmless on a terminal; anything else as JSON, which escapes control characters. */
function shown(value: unknown): string {
  if (value === undefined) return '(none)';
  return typeof value === 'string' && /^[\w.:+-]+$/.test(value) ? value : JSON.stringify(value).slice(0, 80);
}
