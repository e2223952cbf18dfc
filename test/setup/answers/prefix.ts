/**
 * Completes the beginning of a JSON text: leaves out its last, unfinished value, and closes what is open. Returns
 * undefined if not even an object or a list has begun.
 */
export function completePrefix(text: string): unknown {
  const open: string[] = [];
  let end = 0;
  let closing = '';
  let inString = false;
  for (let at = 0; at < text.length; at += 1) {
    const unit = text[at];
    if (inString) {
      if (unit === '\\') at += 1;
      else if (unit === '"') inString = false;
    } else if (unit === '"') {
      inString = true;
    } else if (unit === '{' || unit === '[') {
      open.push(unit === '{' ? '}' : ']');
      end = at + 1;
      closing = open.toReversed().join('');
    } else if (unit === '}' || unit === ']') {
      open.pop();
      end = at + 1;
      closing = open.toReversed().join('');
    } else if (unit === ',') {
      end = at;
      closing = open.toReversed().join('');
    }
  }
  return end === 0 ? undefined : JSON.parse(text.slice(0, end) + closing);
}
