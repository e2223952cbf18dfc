import { limits } from '../../../limits.ts';
import { isSha256 } from '../../check/entry-forms.ts';
import type { EntryText } from '../../check/entry-text.ts';
import { sha256Hex } from '../../format/digests.ts';
import { readChanges, textOfValue } from './changes.ts';
import { type DocumentTable, LAST } from './document-table.ts';
import { type OperationMismatch, readOperation } from './operations.ts';

/** A document that is not as the trail says, or a change that does not give the digest that it states. */
export interface DocumentMismatch {
  document: string;
  /** Seq of the entry that last changed the document, or of the entry with the change; null without one. */
  seq: number | null;
  how: 'edited' | 'inserted' | 'removed' | 'change';
}

export type Mismatch = DocumentMismatch | OperationMismatch;

/** Reads a backup again, and passes on each document with its digest and each entry. */
export type ReadAgain = (
  onDocument: (name: string, sha256: Buffer) => void,
  onEntry: (entry: EntryText) => void,
) => Promise<unknown>;

/** Counts the documents that seem not to be as the trail says, and those of which it does not tell. */
export function countRows(table: DocumentTable, era: number): { untold: number; suspects: number } {
  let untold = 0;
  let suspects = 0;
  for (const row of table.rows()) {
    const verdict = judge(table.isInBackup(row), table.lastOf(row, era), era, table.isSame(row));
    if (verdict === 'untold') untold += 1;
    else if (isMismatch(verdict)) suspects += 1;
  }
  return { untold, suspects };
}

type Verdict = 'edited' | 'inserted' | 'removed' | 'untold' | undefined;

function judge(isInBackup: boolean, last: number, era: number, isSame: boolean): Verdict {
  if (last === LAST.nothing && era > 0) return isInBackup ? 'untold' : undefined;
  if (last === LAST.nothing || last === LAST.deleted) return isInBackup ? 'inserted' : undefined;
  if (!isInBackup) return 'removed';
  if (last === LAST.present) return 'untold';
  return isSame ? undefined : 'edited';
}

function isMismatch(verdict: Verdict): verdict is 'edited' | 'inserted' | 'removed' {
  return verdict !== undefined && verdict !== 'untold';
}

interface Suspect {
  document: string | undefined;
  last: number;
  digest: string | undefined;
  seq: number | null;
}

/**
 * Names the documents that are not as the trail says, with a second reading of the backup. Compares whole digests: by
 * chance, two names or digests may have the same fingerprint.
 */
export async function nameSuspects(
  table: DocumentTable,
  { era, suspects }: { era: number; suspects: number },
  readAgain: ReadAgain,
): Promise<{ named: DocumentMismatch[]; falseAlarms: number }> {
  if (suspects === 0) return { named: [], falseAlarms: 0 };
  const found = new Map<string, Suspect>();
  const suspectOf = (name: string): Suspect | undefined => {
    const known = found.get(name);
    if (known !== undefined || found.size >= limits.maxNamedMismatches) return known;
    const row = table.rowOf(name);
    if (!isMismatch(judge(table.isInBackup(row), table.lastOf(row, era), era, table.isSame(row)))) return undefined;
    const suspect: Suspect = { document: undefined, last: LAST.nothing, digest: undefined, seq: null };
    found.set(name, suspect);
    return suspect;
  };
  await readAgain(
    (name, sha256) => {
      const suspect = suspectOf(name);
      if (suspect !== undefined) suspect.document = sha256.toString('hex');
    },
    (entry) => {
      if (readOperation(entry)?.isTold === false) for (const suspect of found.values()) suspect.last = LAST.nothing;
      readChanges(entry, (change) => {
        const { op, name, sha256 } = change;
        const suspect = suspectOf(name);
        if (suspect === undefined) return;
        const value = op === 'put' ? textOfValue(change) : undefined;
        suspect.seq = entry.seqNumber();
        suspect.digest = isSha256(sha256) ? sha256 : value === undefined ? undefined : sha256Hex(value);
        suspect.last = op === 'delete' ? LAST.deleted : suspect.digest ? LAST.presentWithDigest : LAST.present;
      });
    },
  );
  const named: DocumentMismatch[] = [];
  for (const [document, { document: sha256, last, digest, seq }] of found) {
    const how = judge(sha256 !== undefined, last, era, sha256 === digest);
    if (isMismatch(how)) named.push({ document, seq, how });
  }
  named.sort((one, other) => Buffer.compare(Buffer.from(one.document), Buffer.from(other.document)));
  return { named, falseAlarms: found.size - named.length };
}
