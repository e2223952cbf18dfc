import { documentNameFault } from '../../domain/document.ts';
import { BYTE } from '../../json/bytes.ts';
import { MemberCursor } from '../../json/canonical-members.ts';
import { isRevision } from './entry-forms.ts';
import { type EntryText, noSpan, type Span, SpanIndex } from './entry-text.ts';
import { isHash } from './plain-entry.ts';

/** Describes one change of a document as a row of `loom_change`. Spans lie in the entry's text. */
export interface OnlyChange {
  op: 'put' | 'merge' | 'delete';
  name: string;
  /** A whole number; without one, the change has the entry's revision. */
  revision: Span;
  /** A string with a digest in hex; unused for a deletion. */
  sha256: Span;
}

/**
 * Creates a reader of the only element of `changes`. It returns undefined if there are several, or if the element has
 * another form than LOOM's. The spans are valid until the next entry is read.
 */
export function createChangeReader(): (entry: EntryText) => OnlyChange | undefined {
  const [op, name, revision, sha256] = [noSpan(), noSpan(), noSpan(), noSpan()];
  const index = new SpanIndex({ op, name, revision, sha256 });
  const members = new MemberCursor(Buffer.alloc(0), -1);

  /** Returns where the element ends. */
  function readMembers(text: Buffer, start: number): number {
    index.clear();
    members.enter(text, start);
    while (members.next()) {
      const span = index.find(text, members.nameStart, members.nameEnd);
      if (span === undefined) continue;
      span.start = members.valueStart;
      span.end = members.valueEnd;
    }
    return members.end;
  }

  return (entry) => {
    const { text, changes } = entry;
    const { start, end } = changes;
    if (start < 0 || text[start] !== BYTE.openBracket || text[start + 1] !== BYTE.openBrace) return undefined;
    if (readMembers(text, start + 2) !== end - 1) return undefined;
    const operation = OPERATIONS.find((one) => entry.is(op, one));
    if (operation === undefined || (operation !== 'delete' && !isHash(text, sha256))) return undefined;
    const document = entry.value(name);
    if (typeof document !== 'string' || documentNameFault(document) !== undefined) return undefined;
    if (revision.start >= 0 && !isRevision(entry.value(revision))) return undefined;
    return { op: operation, name: document, revision, sha256 };
  };
}

const OPERATIONS = ['put', 'merge', 'delete'] as const;
