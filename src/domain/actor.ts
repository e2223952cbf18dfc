import { limits } from '../limits.ts';

/** Names the kind of token that requested a change, as in the audit entry. */
export type Actor = 'admin' | 'client';

/** Names who requests a change. An audit entry contains both members. */
export interface Caller {
  actor: Actor;
  /** The user of an application on whose behalf it sent the request, if it said so. Untrusted text. */
  actorName?: string | undefined;
}

/**
 * Matches printable characters, of which the space is the only separator. An entry stays readable, because no control
 * or format character in it hides text or changes its direction. docs/http-api.md lists what is refused.
 * U+FFFD is what a decoder makes of bytes that are not UTF-8, such as a name that a terminal sends in Latin-1.
 */
const printableForm = new RegExp(`^(?: |[^\\p{C}\\p{Z}\\uFFFD]){1,${limits.maxActorCharacters}}$`, 'u');

/** Returns the fault of an actor's name as a predicate; undefined for a valid name. */
export function actorNameFault(name: string): string | undefined {
  if (printableForm.test(name) && name.trim() === name) return undefined;
  return `must have 1 to ${limits.maxActorCharacters} printable characters`;
}
