import { createMerger } from '../../../json/merge-patch.ts';
import { limits } from '../../../limits.ts';
import { isSha256 } from '../../check/entry-forms.ts';
import type { EntryText } from '../../check/entry-text.ts';
import { sha256Hex } from '../../format/digests.ts';
import { type Change, readChanges, textOfValue } from './changes.ts';
import { countRows, type DocumentMismatch, type Mismatch, nameSuspects, type ReadAgain } from './compare.ts';
import { DocumentTable, LAST } from './document-table.ts';
import { createFoldedValues } from './folded-values.ts';
import { createOperationCheck, readOperation } from './operations.ts';

// src/backup/offline/fold/ compares the documents of a backup with what its audit trail makes of them. It may import
// the rest of offline/ and what offline/ may import. It must not decide whether a backup is restorable.

/** Describes what the trail of a backup tells about its documents. */
export interface FoldReport {
  /** Seq of the first entry after the last restore or undo that did not record its changes of documents. */
  toldFrom: number;
  /** Number of documents of which the trail states no digest: older nodes wrote none for a merge or a restore. */
  untoldDocuments: number;
  /** Number of merges whose result could not be computed, because its base is unknown or did not fit in memory. */
  uncheckedMerges: number;
  /** At most `limits.maxNamedMismatches`: documents in byte order of their names, then entries. */
  mismatches: Mismatch[];
  mismatchCount: number;
}

/** Folds a trail: applies its changes in order, and keeps the digest that each document has last. */
export interface TrailFold {
  addDocument(name: string, sha256: Buffer): void;
  addEntry(entry: EntryText): void;
  /** Returns undefined if the backup lacks the beginning of its trail. Reads again only to name mismatches. */
  compare(readAgain: ReadAgain): Promise<FoldReport | undefined>;
}

export function createTrailFold(maxValueBytes: number = limits.maxFoldedValueBytes): TrailFold {
  const table = new DocumentTable();
  const values = createFoldedValues(maxValueBytes);
  const merger = createMerger();
  const operations = createOperationCheck();
  const wrong = { named: [] as DocumentMismatch[], count: 0 };
  let isWhole: boolean | undefined;
  let toldFrom = 1;
  /** Number of untold restores so far. */
  let era = 0;
  let uncheckedMerges = 0;

  /** Returns the digest that a change gives, and checks the one that it states. Undefined if nothing tells it. */
  function digestOf(change: Change, row: number, seq: number): string | undefined {
    const { op, name } = change;
    const result = op === 'put' ? textOfValue(change) : resultOfMerge(change, row);
    const digest = result === undefined ? undefined : sha256Hex(result);
    if (result !== undefined && digest === change.sha256) {
      values.set(name, result, op === 'merge');
      return digest;
    }
    const stated = isSha256(change.sha256) ? change.sha256 : undefined;
    if (op === 'put' && result !== undefined && stated === undefined) {
      values.set(name, result, false);
      return digest;
    }
    values.delete(name);
    if (stated === undefined) return undefined;
    if (result !== undefined) {
      wrong.count += 1;
      if (wrong.named.length < limits.maxNamedMismatches) wrong.named.push({ document: name, seq, how: 'change' });
    } else if (op === 'merge') {
      uncheckedMerges += 1;
    }
    return stated;
  }

  /** Returns the result of a merge if its base is known. Older nodes did not state its digest, so nothing needs it. */
  function resultOfMerge({ name, text, valueStart, valueEnd, sha256 }: Change, row: number): Buffer | undefined {
    if (valueStart < 0 || sha256 === undefined) return undefined;
    const last = table.lastOf(row, era);
    const isNew = last === LAST.deleted || (last === LAST.nothing && era === 0);
    const base = isNew ? undefined : values.get(name);
    return base === undefined && !isNew ? undefined : merger.merge(base, text, valueStart, valueEnd);
  }

  function apply(change: Change, seq: number): void {
    const row = table.rowOf(change.name);
    if (change.op === 'delete') {
      values.delete(change.name);
      table.setLast(row, LAST.deleted, era);
      return;
    }
    const digest = digestOf(change, row, seq);
    if (digest === undefined) table.setLast(row, LAST.present, era);
    else table.setLast(row, LAST.presentWithDigest, era, digest);
  }

  return {
    addDocument: (name, digest) => table.setDocument(table.rowOf(name), digest),
    addEntry: (entry) => {
      const seq = entry.seqNumber();
      isWhole ??= seq === 1;
      if (!isWhole) return;
      const operation = readOperation(entry);
      if (operation?.isTold === false) {
        era += 1;
        toldFrom = seq + 1;
        values.clear();
      }
      const changes = readChanges(entry, (change) => apply(change, seq));
      if (operation !== undefined) operations.add(operation, seq, changes);
    },
    compare: async (readAgain) => {
      values.clear();
      if (isWhole !== true) return undefined;
      const { untold, suspects } = countRows(table, era);
      const { named, falseAlarms } = await nameSuspects(table, { era, suspects }, readAgain);
      const recorded = operations.end();
      return {
        toldFrom,
        untoldDocuments: untold,
        uncheckedMerges,
        mismatches: [...named, ...wrong.named, ...recorded.named].slice(0, limits.maxNamedMismatches),
        mismatchCount: suspects - falseAlarms + wrong.count + recorded.count,
      };
    },
  };
}
