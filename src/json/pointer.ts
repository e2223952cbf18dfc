import { limits } from '../limits.ts';

/** Returns one step of a JSON pointer (RFC 6901 §3), with its slash. */
export function pointerToken(name: string): string {
  return `/${name.replaceAll('~', '~0').replaceAll('/', '~1')}`;
}

/** Truncates a pointer that is too long for an error, and marks it with an ellipsis. */
export function shortPointer(pointer: string): string {
  if (pointer.length <= limits.maxPointerCharacters) return pointer;
  const cut = pointer.slice(0, limits.maxPointerCharacters);
  return `${cut.replace(/[\ud800-\udbff]$/, '')}…`;
}
