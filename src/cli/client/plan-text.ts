import type { RestoreReport } from '../../domain/backup.ts';
import type { UndoReport } from '../../domain/undo.ts';
import { counted, labelled, printable, quoted, type Row, table } from '../terminal/text.ts';

/** Limits the names in the text, for each kind of change. The counts cover all names. */
const MAX_NAMES = 20;

/** Returns the report of a restore, or its plan, as text. */
export function restoreText(report: RestoreReport): string {
  return table([
    ...documentRows(report),
    ['audit trail', trailText(report)],
    ['backup', report.verified ? 'verified' : 'NOT verified: nothing proves that it is complete'],
    ['revision', revisionText(report)],
    ...scratchRows(report),
    ...warningRows(report),
  ]);
}

/** Returns the report of an undo, or its plan, as text. */
export function undoText(report: UndoReport): string {
  const undone = report.undone.map(
    ({ kind, event_id, taken_at, revision }) =>
      `the ${kind} ${event_id} of ${taken_at}, which made revision ${revision}`,
  );
  return table([
    ...labelled('undoes', undone),
    ...documentRows(report),
    ['audit trail', returningText(report.imported_audit_count)],
    ['revision', revisionText(report)],
    ...warningRows(report),
  ]);
}

type Report = RestoreReport | UndoReport;

function documentRows({ replaced_state, documents, document_names: names }: Report): Row[] {
  const { added, changed, removed, unchanged } = documents;
  const counts = `${added} added, ${changed} changed, ${removed} removed, ${unchanged} unchanged`;
  return [
    ['documents', replaced_state ? counts : 'left alone'],
    ...nameRows('+', names.added, names.truncated),
    ...nameRows('~', names.changed, names.truncated),
    ...nameRows('-', names.removed, names.truncated),
  ];
}

function nameRows(sign: string, names: string[], truncated: boolean): Row[] {
  const shown = names.slice(0, MAX_NAMES).map((name): Row => ['', `${sign} ${quoted(name)}`]);
  const hasMore = names.length > MAX_NAMES || (truncated && names.length > 0);
  return hasMore ? [...shown, ['', `${sign} … (more)`]] : shown;
}

function returningText(count: number): string {
  return count === 0 ? 'nothing to bring back' : counted(count, 'removed entry returns', 'removed entries return');
}

function trailText({ audit }: RestoreReport): string {
  const parts = [
    [audit.adopted, 'adopted unchanged'],
    [audit.imported, 'imported'],
    [audit.replaced, 'removed from the live trail'],
  ] as const;
  const said = parts.filter(([count]) => count > 0).map(([count, what]) => `${counted(count, 'entry')} ${what}`);
  return said.length === 0 ? 'nothing to import' : said.join(', ');
}

function scratchRows({ scratch }: RestoreReport): Row[] {
  if (scratch === null) return [];
  const made = scratch.state_sha256 === null ? 'a new one' : `digest ${scratch.state_sha256}`;
  return [['scratch state', `${quoted(scratch.state_key)}, ${made}`]];
}

function revisionText({ based_on_revision: from, revision: to, epoch }: Report): string {
  return `${from} becomes ${to}${epoch === null ? '' : `, epoch ${printable(epoch)}`}`;
}

function warningRows({ warnings }: Report): Row[] {
  return warnings.map((warning) => ['warning', printable(warning)]);
}
