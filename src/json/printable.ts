/**
 * Matches characters that move the cursor, hide text or change its direction. JSON does not escape all of them: C0, DEL
 * and C1 controls, invisible and bidirectional ones, line and paragraph separators, tags, and halves of surrogate
 * pairs.
 */
const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
  /[\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\u{e0000}-\u{e007f}]/gu;

/** Matches what is not printable ASCII. Most texts have none of it, and this search is cheap. */
const NOT_ASCII = /[^\n -~]/;

/** Escapes the control characters of an untrusted text, except line breaks. */
export function printable(text: string): string {
  if (!NOT_ASCII.test(text)) return text;
  return text.replace(UNSAFE, (character) => (character === '\n' ? character : escapeOf(character)));
}

/** Escapes the control characters of an untrusted text, and its line breaks, which could imitate lines of LOOM. */
export function oneLine(text: string): string {
  return text.replace(UNSAFE, escapeOf);
}

/** Escapes a character as JSON does, one or two units of UTF-16. */
function escapeOf(character: string): string {
  const units = Array.from({ length: character.length }, (_none, index) => character.charCodeAt(index));
  return units.map((unit) => `\\u${unit.toString(16).padStart(4, '0')}`).join('');
}
