import { randomBytes } from 'node:crypto';
import { NameTakenError } from '../domain/object-store.ts';
import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';

const OBJECT_NAME = /^[A-Za-z0-9_%~-][A-Za-z0-9_%~.-]*$/;

/**
 * Throws unless the name is flat and portable: no slash, no leading dot. So no name leaves the folder or the prefix of
 * a store, and none is the name of a temporary object.
 */
export function assertObjectName(name: string): void {
  if (OBJECT_NAME.test(name) && name.length <= limits.maxObjectNameCharacters) return;
  throw new LoomError(
    'store_refused',
    `${JSON.stringify(name.slice(0, limits.maxObjectNameCharacters))} is not a name for an object of a backup store. ` +
      `A name has 1 to ${limits.maxObjectNameCharacters} letters, digits and the characters _ % ~ - and ., ` +
      'and does not begin with a dot.',
  );
}

/** Creates a unique name for the temporary file of an object. */
export function createPartName(name: string): string {
  return `.${name}.${randomBytes(8).toString('hex')}.part`;
}

/** Begins the name of the object of each check. */
export const CHECK_PREFIX = '.check.';

/** Creates a unique name for the object of `check`. */
export function createCheckName(): string {
  return `${CHECK_PREFIX}${randomBytes(8).toString('hex')}.part`;
}

/** Returns whether the name is that of a temporary object, which no list shows. */
export function isTemporary(name: string): boolean {
  return name.startsWith('.');
}

/**
 * Returns whether a sweep of `prefix` deletes this temporary object once it is old. Every sweep deletes the objects of
 * checks, and their own temporary objects, which have one more dot.
 */
export function isSwept(name: string, prefix: string): boolean {
  return name.endsWith('.part') && (name.startsWith(`.${prefix}`) || /^\.\.?check\./.test(name));
}

export function nameIsTaken(name: string): NameTakenError {
  return new NameTakenError(
    'store_failed',
    `Could not write ${JSON.stringify(name)}: the store has an object of this name already, and LOOM replaces none.`,
  );
}
