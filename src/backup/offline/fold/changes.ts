import { endOfPart, MemberCursor } from '../../../json/canonical-members.ts';
import { limits } from '../../../limits.ts';
import type { EntryText } from '../../check/entry-text.ts';

/** Describes one change of a document in an entry. */
export interface Change {
  op: 'put' | 'merge' | 'delete';
  name: string;
  /** The canonical text of the entry, with the position of the value or patch. The start is -1 if there is none. */
  text: Buffer;
  valueStart: number;
  valueEnd: number;
  /** What the entry states as the digest of the document after the change, in any form. Older nodes stated none. */
  sha256: string | undefined;
}

/** Returns the canonical text of a change's value or patch, valid as long as the entry's text. */
export function textOfValue({ text, valueStart, valueEnd }: Change): Buffer | undefined {
  return valueStart < 0 ? undefined : text.subarray(valueStart, valueEnd);
}

/**
 * Passes on the changes in an entry in order. Skips elements of another form than LOOM's, as `loom_entry_changes` does.
 * Returns the number of all elements.
 */
export function readChanges({ text, changes }: EntryText, onChange: (change: Change) => void): number {
  if (changes.start < 0 || text[changes.start] !== OPENING_BRACKET) return 0;
  let elements = 0;
  let position = changes.start + 1;
  while (text[position] !== CLOSING_BRACKET) {
    elements += 1;
    let end: number;
    if (text[position] === OPENING_BRACE) {
      const members = new MemberCursor(text, position + 1);
      const change = readChange(members);
      if (change !== undefined) onChange(change);
      end = members.end;
    } else {
      end = endOfPart(text, position);
    }
    position = text[end] === COMMA ? end + 2 : end;
  }
  return elements;
}

const OPENING_BRACKET = 0x5b;
const CLOSING_BRACKET = 0x5d;
const OPENING_BRACE = 0x7b;
const COMMA = 0x2c;

function readChange(members: MemberCursor): Change | undefined {
  let op: Change['op'] | undefined;
  let name: string | undefined;
  let sha256: string | undefined;
  let valueStart = -1;
  let valueEnd = -1;
  while (members.next()) {
    if (members.isNamed('op')) {
      op = readOperation(members);
    } else if (members.isNamed('name')) {
      name = members.readString();
    } else if (members.isNamed('value')) {
      // No view of the value: few changes need one, and it costs as much as the hash of a short text.
      valueStart = members.valueStart;
      valueEnd = members.valueEnd;
    } else if (members.isNamed('sha256')) {
      sha256 = members.readString();
    }
  }
  if (op === undefined || name === undefined || !isShortName(name)) return undefined;
  return { op, name, text: members.bytes, valueStart, valueEnd, sha256 };
}

function readOperation(members: MemberCursor): Change['op'] | undefined {
  if (members.isString('merge')) return 'merge';
  if (members.isString('put')) return 'put';
  return members.isString('delete') ? 'delete' : undefined;
}

function isShortName(name: string): boolean {
  const { maxDocumentNameBytes } = limits;
  // A character has at most three bytes for each unit of its length.
  return name !== '' && (3 * name.length <= maxDocumentNameBytes || Buffer.byteLength(name) <= maxDocumentNameBytes);
}
