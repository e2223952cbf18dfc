import { documentNameFault } from '../../domain/document.ts';
import { BYTE, typeOf } from '../../json/bytes.ts';
import { readMembers, skipValue } from '../../json/members.ts';
import { type EntryMembers, entryForms } from './entry-forms.ts';

/** Describes what the text of one audit entry says. Nothing is parsed but the members that LOOM checks. */
export interface EntryText {
  /** The checked members as `JSON.parse` returns them, except that an overlong string is read as an empty one. */
  members: EntryMembers;
  /** Lower-case hex; undefined if it is malformed. */
  hash: string | undefined;
  /** The entry's text without a well-formed `hash`. It shares the memory of the captured text. */
  text: Buffer;
  /** Its only change, if it has exactly one, in the form in which LOOM writes it now. */
  change: EntryChange | undefined;
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

/** Bounds the strings that are read. It exceeds every form, and an action is only required to be a string. */
const MAX_STRING_BYTES = 1024;

const hashForm = new RegExp(entryForms.hash);
const revisionForm = new RegExp(entryForms.revision);

/** Reads the captured text of an object. May overwrite its `hash` with spaces. */
export function readEntryText(captured: Buffer): EntryText {
  const members: EntryMembers = {};
  let hashStart = 0;
  let hashEnd = 0;
  let change: EntryChange | undefined;
  readMembers(captured, 0, (nameStart, nameEnd, start) => {
    const name = find(entryMembers, captured, nameStart, nameEnd);
    if (name === 'changes') {
      const only = readOnlyChange(captured, start);
      if (only === undefined) return skipValue(captured, start);
      change = only.change;
      return only.end;
    }
    const end = skipValue(captured, start);
    if (name === undefined) return end;
    members[name] = readScalar(captured, start, end);
    if (name === 'hash') {
      hashStart = nameStart - 1;
      hashEnd = end;
    }
    return end;
  });
  const hash = typeof members.hash === 'string' && hashForm.test(members.hash) ? members.hash : undefined;
  const text = hash === undefined ? captured : removeMember(captured, hashStart, hashEnd);
  return { members, hash, text, change };
}

/** Removes a member that begins with its quote at `start`. A text that begins with it is cut, any other one blanked. */
function removeMember(text: Buffer, start: number, end: number): Buffer {
  const hasNext = text[end] === BYTE.comma;
  if (start === 1 && hasNext) {
    text[end] = BYTE.openBrace;
    return text.subarray(end);
  }
  text.fill(BYTE.space, hasNext || start === 1 ? start : start - 1, hasNext ? end + 1 : end);
  return text;
}

/** Returns the only element of `changes`; undefined if there are several, or if it has another form than LOOM's. */
function readOnlyChange(text: Buffer, start: number): { change: EntryChange; end: number } | undefined {
  if (text[start] !== BYTE.openBracket || text[start + 1] !== BYTE.openBrace) return undefined;
  const members: Partial<Record<'op' | 'name' | 'sha256' | 'revision', string | number | null>> = {};
  const end = readMembers(text, start + 1, (nameStart, nameEnd, valueStart) => {
    const valueEnd = skipValue(text, valueStart);
    const name = find(changeMembers, text, nameStart, nameEnd);
    if (name !== undefined) members[name] = readScalar(text, valueStart, valueEnd);
    return valueEnd;
  });
  if (text[end] !== BYTE.closeBracket) return undefined;
  const { op, name, sha256, revision } = members;
  if (op !== 'put' && op !== 'merge' && op !== 'delete') return undefined;
  if (typeof name !== 'string' || documentNameFault(name) !== undefined) return undefined;
  if (op !== 'delete' && !(typeof sha256 === 'string' && hashForm.test(sha256))) return undefined;
  if (revision !== undefined && !(typeof revision === 'number' && revisionForm.test(String(revision))))
    return undefined;
  const digits = revision === undefined ? undefined : String(revision);
  return { change: { op, name, revision: digits, sha256: op === 'delete' ? '' : String(sha256) }, end: end + 1 };
}

/** Returns the value of a string or number, and null for any other value. */
function readScalar(text: Buffer, start: number, end: number): string | number | null {
  const first = text[start] as number;
  if (first !== BYTE.quote) return typeOf(first) === 'number' ? Number(text.toString('latin1', start, end)) : null;
  if (end - start > MAX_STRING_BYTES) return '';
  const value = text.toString('utf8', start + 1, end - 1);
  return value.includes('\\') ? String(JSON.parse(`"${value}"`)) : value;
}

type KnownName<Name extends string> = { name: Name; bytes: Buffer };

/** Maps the length of a name to the known names of this length. */
function known<Name extends string>(...names: Name[]): KnownName<Name>[][] {
  const byLength: KnownName<Name>[][] = [];
  for (const name of names) {
    byLength[name.length] ??= [];
    byLength[name.length]?.push({ name, bytes: Buffer.from(name) });
  }
  return byLength;
}

/** Returns the known name between two positions without making a string of each name. */
function find<Name extends string>(byLength: KnownName<Name>[][], text: Buffer, start: number, end: number) {
  const names = byLength[end - start];
  if (names === undefined) return undefined;
  for (const { name, bytes } of names) {
    let index = 0;
    while (index < bytes.length && bytes[index] === text[start + index]) index += 1;
    if (index === bytes.length) return name;
  }
  return undefined;
}
