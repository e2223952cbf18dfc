import type { Mismatch } from '../../backup/offline/fold/compare.ts';
import type { FoldReport } from '../../backup/offline/fold/fold.ts';
import type { ErrorPlace } from '../../errors.ts';
import { counted, placeText, quoted } from './text.ts';

/** Bounds the mismatches that a text lists, one in each line. `--json` lists more. */
const MAX_LINES = 20;

/** Returns the code that `verify` gives for a mismatch: that of `GET /v1/audit/verify`. */
export function mismatchCode({ how }: Mismatch): string {
  return how === 'recorded_changes' ? 'changes_mismatch' : 'document_mismatch';
}

/** Describes what the trail tells about the documents of a verified backup, as `--json` does. */
export function foldMembers(fold: FoldReport | undefined): object {
  if (fold === undefined) return { told_from_seq: null, mismatches: [], mismatch_count: 0 };
  const { toldFrom, untoldDocuments, uncheckedMerges, mismatches, mismatchCount } = fold;
  return {
    told_from_seq: toldFrom,
    untold_documents: untoldDocuments,
    unchecked_merges: uncheckedMerges,
    mismatches,
    mismatch_count: mismatchCount,
  };
}

/** Returns the lines on the documents that the trail tells, and on those that it does not. */
export function toldLines(fold: FoldReport | undefined): string[] {
  if (fold === undefined) return [];
  const { toldFrom, untoldDocuments, uncheckedMerges, mismatchCount } = fold;
  const lines: string[] = [];
  if (mismatchCount === 0) {
    lines.push(`${untoldDocuments === 0 ? 'every document is' : 'all other documents are'} as the audit trail says`);
  }
  if (untoldDocuments > 0) {
    const since = toldFrom === 1 ? '' : ` A restore before entry ${toldFrom} did not record its changes`;
    lines.push(`not checked: ${counted(untoldDocuments, 'document')} that the trail does not tell.${since}`);
  }
  if (uncheckedMerges > 0) {
    lines.push(`not checked: the results of ${counted(uncheckedMerges, 'merge')}, whose earlier values are not known`);
  }
  return lines;
}

/** Returns the verdict on mismatches, and a sentence for each up to a bound. Empty without mismatches. */
export function mismatchLines(fold: FoldReport | undefined): string[] {
  const [first] = fold?.mismatches ?? [];
  if (fold === undefined || first === undefined) return [];
  const shown = fold.mismatches.slice(0, MAX_LINES);
  const more = fold.mismatchCount - shown.length;
  return [
    `not ok: ${mismatchCode(first)}${placeText(placeOf(first))}`,
    ...shown.map(describeMismatch),
    ...(more > 0 ? [`and ${counted(more, 'more mismatch', 'more mismatches')}`] : []),
  ];
}

/** Returns the member `trail` of `--json` if documents are not as the audit trail says. */
export function mismatchMembers(fold: FoldReport | undefined): { trail?: object } {
  return fold === undefined || fold.mismatchCount === 0 ? {} : { trail: foldMembers(fold) };
}

/** Returns the warning for a backup with mismatches that is kept or restored nevertheless; undefined without any. */
export function mismatchWarning(
  fold: FoldReport | undefined,
): { code: string; place: ErrorPlace; sentences: string } | undefined {
  const [first] = fold?.mismatches ?? [];
  if (fold === undefined || first === undefined) return undefined;
  const { mismatchCount: count } = fold;
  const others = count === 1 ? '' : ` The backup has ${count} mismatches.`;
  const advice = 'Someone changed the database without LOOM. Run verify on the file.';
  return {
    code: mismatchCode(first),
    place: placeOf(first),
    sentences: `${describeMismatch(first)}${others} ${advice}`,
  };
}

export function placeOf({ document, seq }: Mismatch): ErrorPlace {
  return { ...(document === null ? {} : { document }), ...(seq === null ? {} : { seq }) };
}

export function describeMismatch(mismatch: Mismatch): string {
  const { document, seq, how } = mismatch;
  if (how === 'recorded_changes') {
    const { claimed, recorded } = mismatch;
    return `Entry ${seq} claims ${claimed} recorded changes, and the entries that follow it have ${recorded}.`;
  }
  const name = quoted(document);
  const entry = seq === null ? '' : ` Entry ${seq} changed it last.`;
  const texts = {
    edited: `Document ${name} differs from what the audit trail says.${entry}`,
    inserted: `Document ${name} is in the backup, but does not exist according to the audit trail.${entry}`,
    removed: `Document ${name} is missing, but exists according to the audit trail.${entry}`,
    change: `The digest of document ${name} in entry ${seq} does not match the change in that entry.`,
  };
  return texts[how];
}
