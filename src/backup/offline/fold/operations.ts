import { BYTE } from '../../../json/bytes.ts';
import { MemberCursor } from '../../../json/canonical-members.ts';
import { limits } from '../../../limits.ts';
import type { EntryText, Span } from '../../check/entry-text.ts';

/** Describes an entry of a restore or undo. */
export interface Operation {
  kind: 'restore' | 'undo';
  /** Whether it is the entry of the operation itself. The others have its changes of documents. */
  isFirst: boolean;
  /** The number of changes that the operation claims, as text. The trail may have any other value there. */
  claimed: string;
  /** False for an operation by an older node, which did not record what it changed. */
  isTold: boolean;
}

/** Returns what the entry says of a restore or undo; undefined for any other entry. */
export function readOperation(entry: EntryText): Operation | undefined {
  const { action } = entry;
  if (entry.is(action, 'restore')) return readFirst(entry, 'restore', entry.restore);
  if (entry.is(action, 'undo')) return readFirst(entry, 'undo', entry.undo);
  if (entry.is(action, 'restore.changes')) return { kind: 'restore', isFirst: false, claimed: '0', isTold: true };
  if (entry.is(action, 'undo.changes')) return { kind: 'undo', isFirst: false, claimed: '0', isTold: true };
  return undefined;
}

function readFirst({ text }: EntryText, kind: Operation['kind'], { start }: Span): Operation {
  const untold: Operation = { kind, isFirst: true, claimed: '0', isTold: false };
  if (start < 0 || text[start] !== BYTE.openBrace) return untold;
  const members = new MemberCursor(text, start + 1);
  while (members.next()) {
    if (!members.isNamed('recorded_changes')) continue;
    const { valueStart, valueEnd } = members;
    const end = Math.min(valueEnd, valueStart + limits.maxNamedClaimBytes);
    const value = text.toString('utf8', valueStart, end);
    if (value === 'null') return untold;
    const claimed = end < valueEnd ? `${value}…` : (members.readString() ?? value);
    return { kind, isFirst: true, claimed, isTold: /^[-\d]/.test(value) };
  }
  return untold;
}

/** A restore or undo that claims other changes than the entries directly after it have. */
export interface OperationMismatch {
  document: null;
  /** Seq of the restore or undo, or of the first entry with changes that has none before it. */
  seq: number;
  how: 'recorded_changes';
  claimed: string;
  recorded: number;
}

/** Compares each restore and undo with the entries after it, as `OPERATIONS` in verify-changes.ts does. */
export interface OperationCheck {
  /** Adds the next operation. `changes` is the number of elements in the changes of its entry. */
  add(operation: Operation, seq: number, changes: number): void;
  /** Returns the mismatches, of which it names at most `limits.maxNamedMismatches`. */
  end(): { named: OperationMismatch[]; count: number };
}

export function createOperationCheck(): OperationCheck {
  const named: OperationMismatch[] = [];
  let count = 0;
  let current:
    | { kind: string; seq: number; claimed: string; recorded: number; next: number; isMisplaced: boolean }
    | undefined;

  function finish(): void {
    if (current === undefined) return;
    const { seq, claimed, recorded, isMisplaced } = current;
    current = undefined;
    if (!isMisplaced && claimed === String(recorded)) return;
    count += 1;
    if (named.length < limits.maxNamedMismatches) {
      named.push({ document: null, seq, how: 'recorded_changes', claimed, recorded });
    }
  }

  return {
    add: ({ kind, isFirst, claimed }, seq, changes) => {
      if (isFirst) finish();
      current ??= { kind, seq, claimed, recorded: 0, next: seq, isMisplaced: !isFirst };
      if (seq !== current.next || kind !== current.kind) current.isMisplaced = true;
      current.recorded += changes;
      current.next = seq + 1;
    },
    end: () => {
      finish();
      return { named, count };
    },
  };
}
