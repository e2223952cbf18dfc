import { endOfPart, MemberCursor } from '../../../json/canonical-members.ts';
import { limits } from '../../../limits.ts';
import type { CheckedEntry } from '../../check/entry.ts';
import { isSha256 } from '../../check/entry-forms.ts';

/** Describes one change of a document in an entry. */
export interface Change {
  op: 'put' | 'merge' | 'delete';
  name: string;
  /** Canonical text of the value or patch, valid as long as the entry's text. */
  value: Buffer | undefined;
  /** The digest that the entry states for the document after the change. Older nodes wrote none. */
  sha256: string | undefined;
}

/**
 * Passes on the changes in an entry in order. Skips elements of another form than LOOM's, as `loom_entry_changes` does.
 */
export function readChanges({ text, changesAt }: CheckedEntry, onChange: (change: Change) => void): void {
  if (changesAt < 0 || text[changesAt] !== OPENING_BRACKET) return;
  let position = changesAt + 1;
  while (text[position] !== CLOSING_BRACKET) {
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
}

const OPENING_BRACKET = 0x5b;
const CLOSING_BRACKET = 0x5d;
const OPENING_BRACE = 0x7b;
const COMMA = 0x2c;

function readChange(members: MemberCursor): Change | undefined {
  const { bytes } = members;
  let op: string | undefined;
  let name: string | undefined;
  let value: Buffer | undefined;
  let sha256: string | undefined;
  while (members.next()) {
    if (members.isNamed('op')) op = members.readString();
    else if (members.isNamed('name')) name = members.readString();
    else if (members.isNamed('value')) value = bytes.subarray(members.valueStart, members.valueEnd);
    else if (members.isNamed('sha256')) sha256 = members.readString();
  }
  if (op !== 'put' && op !== 'merge' && op !== 'delete') return undefined;
  if (name === undefined || name === '' || Buffer.byteLength(name) > limits.maxDocumentNameBytes) return undefined;
  return { op, name, value, sha256: isSha256(sha256) ? sha256 : undefined };
}
