import { BYTE } from './bytes.ts';

/**
 * Calls `onMember` for each member of the object that begins at `from` of a captured text (`CapturedValue.text`), and
 * returns the position after the object. The name lies between two positions, without its quotes. `onMember` returns
 * the position after the value. The text is valid and compact.
 */
export function readMembers(
  text: Uint8Array,
  from: number,
  onMember: (nameStart: number, nameEnd: number, valueStart: number) => number,
): number {
  let position = from + 1;
  while (text[position] === BYTE.quote) {
    const nameEnd = stringEnd(text, position) - 1;
    position = onMember(position + 1, nameEnd, nameEnd + 2);
    if (text[position] === BYTE.comma) position += 1;
  }
  return position + 1;
}

/** Returns the position after the value that begins at `from` of a captured text. */
export function skipValue(text: Uint8Array, from: number): number {
  let level = 0;
  let position = from;
  for (;;) {
    const byte = text[position] as number;
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
function stringEnd(text: Uint8Array, from: number): number {
  let position = from + 1;
  for (;;) {
    const byte = text[position] as number;
    if (byte === BYTE.quote) return position + 1;
    position += byte === BYTE.backslash ? 2 : 1;
  }
}
