import { documentNameFault } from '../../domain/document.ts';
import { BYTE, typeOf } from '../../json/bytes.ts';
import { readMembers, skipValue } from '../../json/members.ts';
import { limits } from '../../limits.ts';
import { type EntryMembers, isRevision, isSha256 } from './entry-forms.ts';

/** Describes what the text of one audit entry says. */
export interface EntryText {
  /** The checked members as `JSON.parse` returns them, except that an overlong string is read as an empty one. */
  members: EntryMembers;
  /** Its only change, if it has exactly one, in the form in which LOOM writes it now. */
  change: EntryChange | undefined;
  /** Where the member `hash` begins, with its quote, and where its value ends. Both are 0 if there is none. */
  hashStart: number;
  hashEnd: number;
}

/** Describes one change of a document as a row of `loom_change`. */
export interface EntryChange {
  name: string;
  /** Decimal digits; undefined for the entry's own revision. */
  revision: string | undefined;
  op: string;
  /** Lower-case hex; empty for a deletion. */
  sha256: string;
}

const entryMembers = known(
  'seq',
  'hash',
  'event_id',
  'recorded_at',
  'action',
  'idempotency_key',
  'revision',
  'epoch',
  'changes',
);
const changeMembers = known('op', 'name', 'sha256', 'revision');

/**
 * Bounds the strings that are read: the longest name with each byte escaped. An action is only required to be a string.
 */
const MAX_STRING_BYTES = 6 * limits.maxDocumentNameBytes + 2;

/**
 * Reads the members of an entry that LOOM checks or stores in columns. It skips the others instead of parsing them,
 * which bounds its memory: an entry may have tens of MiB.
 */
export function readEntryText(captured: Buffer): EntryText {
  const text = captured.toString('latin1');
  const entry: EntryText = { members: {}, change: undefined, hashStart: 0, hashEnd: 0 };
  readMembers(text, 1, (nameStart, nameEnd, start) => {
    const name = find(entryMembers, text, nameStart, nameEnd);
    if (name === 'changes') {
      const only = readOnlyChange(text, start);
      entry.change = only?.change;
      return only?.end ?? skipValue(text, start);
    }
    const end = skipValue(text, start);
    if (name !== undefined) entry.members[name] = readScalar(text, start, end);
    if (name === 'hash') {
      entry.hashStart = nameStart - 1;
      entry.hashEnd = end;
    }
    return end;
  });
  return entry;
}

export function hasWellFormedHash(members: EntryMembers): members is EntryMembers & { hash: string } {
  return isSha256(members.hash);
}

/**
 * Returns the text of an entry without its `hash`. Changes the text in place: it cuts a hash at the beginning, where
 * LOOM writes it, and blanks any other one.
 */
export function removeHash(text: Buffer, { hashStart, hashEnd }: EntryText): Buffer {
  const hasNext = text[hashEnd] === BYTE.comma;
  if (hashStart === 1 && hasNext) {
    text[hashEnd] = BYTE.openBrace;
    return text.subarray(hashEnd);
  }
  const separator = hasNext || hashStart === 1 ? hashStart : text.lastIndexOf(BYTE.comma, hashStart);
  text.fill(BYTE.space, separator, hasNext ? hashEnd + 1 : hashEnd);
  return text;
}

/** Returns the only element of `changes`; undefined if there are several, or if it has another form than LOOM's. */
function readOnlyChange(text: string, start: number): { change: EntryChange; end: number } | undefined {
  if (!text.startsWith('[{', start)) return undefined;
  const members: Partial<Record<'op' | 'name' | 'sha256' | 'revision', string | number | null>> = {};
  const end = readMembers(text, start + 2, (nameStart, nameEnd, valueStart) => {
    const valueEnd = skipValue(text, valueStart);
    const name = find(changeMembers, text, nameStart, nameEnd);
    if (name !== undefined) members[name] = readScalar(text, valueStart, valueEnd);
    return valueEnd;
  });
  if (text[end] !== ']') return undefined;
  const { op, name, sha256, revision } = members;
  if (op !== 'put' && op !== 'merge' && op !== 'delete') return undefined;
  if (typeof name !== 'string' || documentNameFault(name) !== undefined) return undefined;
  if (op !== 'delete' && !isSha256(sha256)) return undefined;
  if (revision !== undefined && !isRevision(revision)) return undefined;
  const digits = revision === undefined ? undefined : String(revision);
  return { change: { op, name, revision: digits, sha256: op === 'delete' ? '' : String(sha256) }, end: end + 1 };
}

/** Returns the value of a string or number in a text that was read as Latin-1, and null for any other value. */
function readScalar(text: string, start: number, end: number): string | number | null {
  const first = text.charCodeAt(start);
  if (first !== BYTE.quote) return typeOf(first) === 'number' ? Number(text.slice(start, end)) : null;
  if (end - start > MAX_STRING_BYTES) return '';
  const value = text.slice(start + 1, end - 1);
  if (PLAIN.test(value)) return value;
  return String(JSON.parse(Buffer.from(text.slice(start, end), 'latin1').toString('utf8')));
}

/** Matches a string without escapes and of ASCII only. */
const PLAIN = /^[ -[\]-~]*$/;

/** Maps the length of a name to the known names of this length. */
function known<Name extends string>(...names: Name[]): Name[][] {
  const byLength: Name[][] = [];
  for (const name of names) {
    byLength[name.length] ??= [];
    byLength[name.length]?.push(name);
  }
  return byLength;
}

/** Returns the known name between two positions without making a string of each name. */
function find<Name extends string>(byLength: Name[][], text: string, start: number, end: number): Name | undefined {
  return byLength[end - start]?.find((name) => text.startsWith(name, start));
}
