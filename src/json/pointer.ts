import { limits } from '../limits.ts';

/** Returns one step of a JSON pointer (RFC 6901 §3), with its slash. */
export function pointerToken(name: string): string {
  return `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

/** Truncates a pointer or name that is too long for an error, and marks it with an ellipsis. */
export function shortText(text: string): string {
  if (text.length <= limits.maxPointerCharacters) return text;
  const cut = text.slice(0, limits.maxPointerCharacters);
  return `${cut.replace(/[\ud800-\udbff]$/, '')}…`;
}
