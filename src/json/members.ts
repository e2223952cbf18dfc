import { BYTE } from './bytes.ts';

/**
 * Calls `onMember` for each member of an object in a captured text (`CapturedValue.text`), which may be read as
 * Latin-1, beginning with the name at `from`, and returns the position after the object. The name lies between two
 * positions, without its quotes. `onMember` returns the position after the value.
 */
export function readMembers(
  text: string,
  from: number,
  onMember: (nameStart: number, nameEnd: number, valueStart: number) => number,
): number {
  let position = from;
  while (text.charCodeAt(position) === BYTE.quote) {
    const nameEnd = stringEnd(text, position) - 1;
    position = onMember(position + 1, nameEnd, afterSeparator(text, nameEnd + 1));
    if (text.charCodeAt(position) === BYTE.comma) position = afterSeparator(text, position);
  }
  return position + 1;
}

/** Returns the position after a separator and the space that it has in canonical form. */
function afterSeparator(text: string, separator: number): number {
  return text.charCodeAt(separator + 1) === BYTE.space ? separator + 2 : separator + 1;
}

/** Returns the position after the value that begins at `from` of a captured text. */
export function skipValue(text: string, from: number): number {
  let level = 0;
  let position = from;
  for (;;) {
    const byte = text.charCodeAt(position);
    if (byte === BYTE.quote) {
      position = stringEnd(text, position);
      if (level === 0) return position;
      continue;
    }
    if (byte === BYTE.openBrace || byte === BYTE.openBracket) {
      level += 1;
    } else if (byte === BYTE.closeBrace || byte === BYTE.closeBracket) {
      // This bracket ends either the value or, after a number or literal, the container around it.
      if (level === 0) return position;
      level -= 1;
      if (level === 0) return position + 1;
    } else if (level === 0 && byte === BYTE.comma) return position;
    position += 1;
  }
}

/** Returns the position after the string whose opening quote is at `from`. */
function stringEnd(text: string, from: number): number {
  let end = from;
  do end = text.indexOf('"', end + 1);
  while (isEscaped(text, end));
  return end + 1;
}

/** Returns whether an odd number of backslashes precedes the position. */
function isEscaped(text: string, position: number): boolean {
  let start = position;
  while (text.charCodeAt(start - 1) === BYTE.backslash) start -= 1;
  return (position - start) % 2 === 1;
}
