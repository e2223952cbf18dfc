import type { RestoreReport } from '../../domain/backup.ts';
import type { UndoReport } from '../../domain/undo.ts';
import { mismatchWarning } from '../terminal/fold-text.ts';
import { ageText, counted, labelled, quoted, type Row, table } from '../terminal/text.ts';
import { foreignText, type Identities, identityRows, type NodeIdentity } from './identity.ts';
import type { Question } from './plan-ask-act.ts';

/**
 * Limit the names in the text, for each kind of change, so that the plan fits on a screen. The counts cover all names.
 */
const MAX_NAMES = 5;
const MAX_NAME_CHARACTERS = 64;

/** Limit the warnings in the text. */
const MAX_WARNINGS = 8;

/** Returns the report of a restore, or its plan, as text. `identities` says which backup goes where. */
export function restoreText(report: RestoreReport, identities?: Identities): string {
  return table([
    ...selectedRows(report),
    ...documentRows(report),
    ['audit trail', trailText(report)],
    ['backup', report.verified ? 'verified' : 'NOT verified: nothing proves that it is complete'],
    ...storedRows(report),
    ['revision', revisionText(report)],
    ...scratchRows(report),
    ...warningRows(report),
    ...(identities === undefined ? [] : mismatchRows(identities)),
    ...(identities === undefined ? [] : identityRows(identities, report)),
  ]);
}

/** Returns the question of a restore. For a foreign backup, the operator types the state key instead of `restore`. */
export function restoreQuestion(report: RestoreReport, { node, backup, isForeign }: Identities): Question {
  const from = `${selectedText(report)}the backup of ${backup.stateKey === null ? 'an unknown state' : quoted(backup.stateKey)}`;
  const age = backup.takenAt === null ? 'taken at an unknown time' : `taken ${ageText(backup.takenAt)}`;
  const into = report.scratch === null ? nodeText(node) : `a new scratch state of ${node.url}`;
  const summary = `Restore ${from}, ${age}, into ${into}: ${countsText(report)}.`;
  if (!isForeign || report.scratch !== null || node.stateKey === null)
    return { summary, asked: 'restore', answer: 'restore' };
  return {
    summary: `${summary} ${foreignText(backup)}.`,
    asked: `the state key ${quoted(node.stateKey)}`,
    answer: node.stateKey,
  };
}

/** Returns the question of an undo. It names the newest and the oldest operation to undo. */
export function undoQuestion(report: UndoReport, node: NodeIdentity): Question {
  const [newest] = report.undone;
  const oldest = report.undone.at(-1);
  const named = ({ kind, event_id, taken_at }: UndoReport['undone'][number]): string =>
    `the ${kind} ${event_id} of ${taken_at}, ${ageText(taken_at)}`;
  const what =
    newest === undefined || oldest === undefined
      ? 'nothing'
      : newest === oldest
        ? named(newest)
        : `${report.undone.length} operations, from ${named(newest)}, back to ${named(oldest)}`;
  return { summary: `Undo ${what}, in ${nodeText(node)}: ${countsText(report)}.`, asked: 'undo', answer: 'undo' };
}

function nodeText({ url, stateKey }: NodeIdentity): string {
  return `the live state ${stateKey === null ? '(key unknown)' : quoted(stateKey)} of ${url}`;
}

/** Returns the report of an undo, or its plan, as text. */
export function undoText(report: UndoReport, node?: NodeIdentity): string {
  const undone = report.undone.map(
    ({ kind, event_id, taken_at, revision }) =>
      `the ${kind} ${event_id} of ${taken_at} (${ageText(taken_at)}), which made revision ${revision}`,
  );
  return table([
    ...labelled('undoes', undone),
    ...documentRows(report),
    ['audit trail', returningText(report.imported_audit_count)],
    ['revision', revisionText(report)],
    ...warningRows(report),
    ...(node === undefined ? [] : nodeRows(node)),
  ]);
}

function nodeRows({ url, version, stateKey }: NodeIdentity): Row[] {
  return [
    ['node', `${url}, version ${version ?? 'unknown'}`],
    ['live state', stateKey === null ? 'unknown' : quoted(stateKey)],
  ];
}

type Report = RestoreReport | UndoReport;

function documentRows(report: Report): Row[] {
  const { documents, document_names: names } = report;
  return [
    ['documents', countsText(report)],
    ...nameRows('+', names.added, documents.added),
    ...nameRows('~', names.changed, documents.changed),
    ...nameRows('-', names.removed, documents.removed),
  ];
}

function countsText({ replaced_state, documents: { added, changed, removed, unchanged } }: Report): string {
  return replaced_state
    ? `${added} added, ${changed} changed, ${removed} removed, ${unchanged} unchanged`
    : 'left alone';
}

function nameRows(sign: string, names: string[], count: number): Row[] {
  const shown = names.slice(0, MAX_NAMES).map((name): Row => ['', `${sign} ${shortened(quoted(name))}`]);
  return shown.length > 0 && count > shown.length ? [...shown, ['', `${sign} … (more)`]] : shown;
}

function shortened(name: string): string {
  return name.length > MAX_NAME_CHARACTERS ? `${name.slice(0, MAX_NAME_CHARACTERS)}…` : name;
}

function returningText(count: number): string {
  return count === 0 ? 'nothing to bring back' : counted(count, 'removed entry returns', 'removed entries return');
}

/** A node of an older version does not report the member. */
function selectedNames({ selected_documents: selected }: Partial<RestoreReport>): string[] {
  return selected ?? [];
}

/** A node of an older version does not report the member. */
function storedRows({ stored_backup: name }: Partial<RestoreReport>): Row[] {
  return name === undefined || name === null ? [] : [['', `stored as ${quoted(name)}`]];
}

/** Returns the rows that say to which documents the restore is limited. */
function selectedRows(report: RestoreReport): Row[] {
  const selected = selectedNames(report);
  if (selected.length === 0) return [];
  const shown = selected.slice(0, MAX_NAMES).map((name) => shortened(quoted(name)));
  const more = selected.length > shown.length ? [`… (${selected.length - shown.length} more)`] : [];
  return labelled('selected', [...shown, ...more]);
}

/** Returns the selection for a question: the first names only. */
function selectedText(report: RestoreReport): string {
  const [first, ...others] = selectedNames(report);
  if (first === undefined) return '';
  const more = others.length === 0 ? '' : ` and ${others.length} more`;
  return `only ${shortened(quoted(first))}${more} out of `;
}

function trailText({ audit, ...report }: RestoreReport): string {
  if (selectedNames(report).length > 0) return 'not imported';
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
  return `${from} becomes ${to}${epoch === null ? '' : `, epoch ${epoch}`}`;
}

/** The node checks the backup, but does not compare its documents with its audit trail. */
function mismatchRows({ backup }: Identities): Row[] {
  const warning = mismatchWarning(backup.fold);
  return warning === undefined ? [] : [['warning', warning.sentences]];
}

function warningRows({ warnings }: Report): Row[] {
  const shown = warnings.slice(0, MAX_WARNINGS).map((warning): Row => ['warning', warning]);
  return warnings.length > MAX_WARNINGS ? [...shown, ['warning', '… (more)']] : shown;
}
