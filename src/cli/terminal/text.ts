import type { ErrorPlace } from '../../errors.ts';

/** Characters that move a cursor, hide text or turn its direction, beyond those that JSON escapes. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
const UNSAFE = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** A name as a JSON string: whatever it holds, a terminal shows it and does not obey it. */
export function quoted(name: string): string {
  return JSON.stringify(name).replace(UNSAFE, escapeOf);
}

/** Somebody else's sentence, made harmless for a terminal. Line breaks stay. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) => (character === '\n' ? character : escapeOf(character)));
}

/** One word of a shell's command line, whatever it holds. */
export function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function escapeOf(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** Where a fault is: `(document "a", byte 12)`, with a space before it; empty when nothing is known. */
export function placeText(place: ErrorPlace, more: string[] = []): string {
  const parts = [
    place.document === undefined ? [] : [`document ${quoted(place.document)}`],
    place.seq === undefined ? [] : [`audit entry ${place.seq}`],
    place.offset === undefined ? [] : [`byte ${place.offset}`],
    place.pointer === undefined ? [] : [`at ${place.pointer === '' ? 'the root' : printable(place.pointer)}`],
    more,
  ].flat();
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'] as const;

/** With three significant digits, in powers of 1,000. */
export function sizeText(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export function counted(count: number, one: string, many = `${one}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** Label and text of each row, in two columns. A row without a label goes on from the one above it. */
export function table(rows: readonly (readonly [label: string, text: string])[]): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, text]) => `${label.padEnd(width)}  ${text}\n`).join('');
}
