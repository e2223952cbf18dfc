/**
 * The terminal: safe text, questions, progress, arguments, help. The room imports backup, errors, json, file/ and
 * http/client.
 */
import type { ErrorPlace } from '../../errors.ts';
import { oneLine } from '../../json/printable.ts';

/** Quotes a name as a JSON string, with every control character escaped. */
export function quoted(name: string): string {
  return oneLine(JSON.stringify(name));
}

/** Writes a value as one line of JSON, with every control character escaped. */
export function jsonLine(value: object): string {
  return `${oneLine(JSON.stringify(value))}\n`;
}

/** Quotes a text as one word of a shell's command line, on one line. */
export function shellQuoted(text: string): string {
  return `'${oneLine(text).replaceAll("'", String.raw`'\''`)}'`;
}

/** Returns the place of a fault after a space, such as ` (document "a", byte 12)`; empty if it is unknown. */
export function placeText(place: ErrorPlace, more: string[] = []): string {
  const parts = [
    place.document === undefined ? [] : [`document ${quoted(place.document)}`],
    place.seq === undefined ? [] : [`audit entry ${place.seq}`],
    place.offset === undefined ? [] : [`byte ${place.offset}`],
    place.pointer === undefined ? [] : [`at ${place.pointer === '' ? 'the root' : oneLine(place.pointer)}`],
    more,
  ].flat();
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'] as const;

/** Returns a size with three significant digits, in powers of 1,000. */
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

/** Returns a count with its noun: `1 document`, `2 entries`. */
export function counted(count: number, one: string, many = `${one.replace(/y$/, 'ie')}s`): string {
  return `${count} ${count === 1 ? one : many}`;
}

/** Returns a duration in one unit: `90 s`, `5 min`, `3 days`. */
export function durationText(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min`;
  return seconds < 172_800 ? `${Math.floor(seconds / 3_600)} h` : `${Math.floor(seconds / 86_400)} days`;
}

/** Returns how long ago a time was, such as `3 days ago`. Clocks differ, so a time up to a minute ahead is `now`. */
export function ageText(time: string, nowMs = Date.now()): string {
  const seconds = Math.floor((nowMs - Date.parse(time)) / 1000);
  if (Number.isNaN(seconds)) return 'at an unknown time';
  if (seconds < -60) return `${durationText(-seconds)} in the FUTURE`;
  return seconds < 1 ? 'now' : `${durationText(seconds)} ago`;
}

/** A row without a label continues the one above it. */
export type Row = readonly [label: string, text: string];

/** Returns one row for each text. Only the first row has the label. */
export function labelled(label: string, texts: readonly string[]): Row[] {
  return texts.map((text, index) => [index === 0 ? label : '', text]);
}

/** Bounds one text of a table, so that a node or a file cannot push the other rows off the screen. */
const MAX_CELL_CHARACTERS = 1_000;

/** Returns rows as two columns. No text of a node or a file can add a row. */
export function table(rows: readonly Row[]): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, text]) => `${oneLine(label).padEnd(width)}  ${cell(text)}\n`).join('');
}

function cell(text: string): string {
  const shown = oneLine(text.slice(0, MAX_CELL_CHARACTERS));
  return text.length > MAX_CELL_CHARACTERS ? `${shown}…` : shown;
}
