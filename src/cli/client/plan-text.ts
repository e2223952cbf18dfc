import type { DocumentCounts, DocumentNames, RestoreReport } from '../../domain/backup.ts';
import type { UndoReport } from '../../domain/undo.ts';
import { counted, printable, quoted, table } from '../terminal/text.ts';

/** Names of each kind that the text shows. The counts cover all. */
const NAMES_SHOWN = 20;

type Row = [label: string, text: string];

/** Returns the report of a restore, or its plan, as text. */
export function restoreText(report: RestoreReport): string {
  const { revision, scratch } = report;
  const rows: Row[] = [
    ['documents', report.replaced_state ? countsText(report.documents) : 'left alone'],
    ...nameRows(report.document_names),
    ['audit trail', trailText(report)],
    ['backup', report.verified ? 'verified' : 'NOT verified: nothing proves that it is complete'],
    ['revision', revisionText(report.based_on_revision, revision, report.epoch)],
  ];
  if (scratch !== null) {
    const made = scratch.state_sha256 === null ? 'a new one' : `digest ${scratch.state_sha256}`;
    rows.push(['scratch state', `${quoted(scratch.state_key)}, ${made}`]);
  }
  return table([...rows, ...warningRows(report.warnings)]);
}

/** Returns the report of an undo, or its plan, as text. */
export function undoText(report: UndoReport): string {
  const rows: Row[] = [
    ...report.undone.map(
      ({ kind, event_id, taken_at, revision }, index): Row => [
        index === 0 ? 'undoes' : '',
        `the ${kind} ${event_id} of ${taken_at}, which made revision ${revision}`,
      ],
    ),
    ['documents', report.replaced_state ? countsText(report.documents) : 'left alone'],
    ...nameRows(report.document_names),
    ['audit trail', takenOutText(report.imported_audit_count)],
    ['revision', revisionText(report.based_on_revision, report.revision, report.epoch)],
  ];
  return table([...rows, ...warningRows(report.warnings)]);
}

function takenOutText(count: number): string {
  return count === 0 ? 'nothing to bring back' : `${counted(count, 'removed entry returns', 'removed entries return')}`;
}

function countsText({ added, changed, removed, unchanged }: DocumentCounts): string {
  return `${added} added, ${changed} changed, ${removed} removed, ${unchanged} unchanged`;
}

function nameRows({ added, changed, removed, truncated }: DocumentNames): Row[] {
  const signed: [string, string[]][] = [
    ['+', added],
    ['~', changed],
    ['-', removed],
  ];
  const rows = signed.flatMap(([sign, names]) => [
    ...names.slice(0, NAMES_SHOWN).map((name): Row => ['', `${sign} ${quoted(name)}`]),
    ...(names.length > NAMES_SHOWN || (truncated && names.length > 0) ? [['', `${sign} … (more)`] as Row] : []),
  ]);
  return rows;
}

function trailText({ audit }: RestoreReport): string {
  const parts = [
    [audit.adopted, 'adopted unchanged'],
    [audit.imported, 'imported'],
    [audit.replaced, 'removed from the live trail'],
  ] as const;
  const said = parts
    .filter(([count]) => count > 0)
    .map(([count, what]) => `${counted(count, 'entry', 'entries')} ${what}`);
  return said.length === 0 ? 'nothing to import' : said.join(', ');
}

function revisionText(from: number, to: number, epoch: string | null): string {
  return `${from} becomes ${to}${epoch === null ? '' : `, epoch ${printable(epoch)}`}`;
}

function warningRows(warnings: string[]): Row[] {
  return warnings.map((warning): Row => ['warning', printable(warning)]);
}
