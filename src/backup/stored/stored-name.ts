import { createHash } from 'node:crypto';
import { limits } from '../../limits.ts';

// src/backup/stored/ makes what lies in a backup store: names, manifests, encryption. It also has the schedule of the
// backups and the rule of which to keep. It may import domain, errors, limits, zod, Node's modules, age-encryption and
// croner. It must not know a store, the database or HTTP.

/** Describes the parts of the name of a stored backup. */
export interface StoredName {
  /** Undefined if the key was too long for a name. The name then begins with a part of it and its digest. */
  stateKey: string | undefined;
  /** RFC 3339 in UTC, with milliseconds. */
  takenAt: string;
  revision: number;
  encrypted: boolean;
}

const NAME = /^loom-([\w.%~]+)-(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d\.\d{3})Z-r(0|[1-9]\d{0,15})\.json\.gz(\.age)?$/;

/**
 * Returns the name of a stored backup, such as `loom-default-20260131T235959.000Z-r42.json.gz`. Names of one state sort
 * by their time.
 */
export function makeStoredName(backup: {
  stateKey: string;
  /** RFC 3339 in UTC, with milliseconds or microseconds. */
  takenAt: string;
  revision: number;
  encrypted: boolean;
}): string {
  const { stateKey, takenAt, revision, encrypted } = backup;
  const [date = '', time = ''] = takenAt.split('T');
  const moment = `${date.replaceAll('-', '')}T${time.slice(0, 12).replaceAll(':', '')}Z`;
  const name = `${storedNamePrefix(stateKey)}${moment}-r${revision}.json.gz${encrypted ? '.age' : ''}`;
  if (!NAME.test(name)) throw new TypeError(`${JSON.stringify(takenAt)} is no time for the name of a backup.`);
  return name;
}

/** Returns what the names of all stored backups of a state begin with, and of no other state. */
export function storedNamePrefix(stateKey: string): string {
  return `loom-${encodeKey(stateKey)}-`;
}

/** Returns the parts of a name; undefined if it is not that of a stored backup. */
export function parseStoredName(name: string): StoredName | undefined {
  const match = NAME.exec(name);
  if (match === null) return undefined;
  const [, key = '', year, month, day, hour, minute, second, revision, age] = match;
  const takenAt = `${year}-${month}-${day}T${hour}:${minute}:${second}Z`;
  const isTime = new Date(takenAt).getTime() >= 0 && new Date(takenAt).toISOString() === takenAt;
  if (!isTime || !Number.isSafeInteger(Number(revision))) return undefined;
  const stateKey = decodeKey(key);
  if (stateKey === null) return undefined;
  return { stateKey, takenAt, revision: Number(revision), encrypted: age !== undefined };
}

/** Returns the name of the manifest that lies next to a stored backup. */
export function manifestNameOf(name: string): string {
  return `${name}.manifest.json`;
}

/** Returns the name of the object that says which store this is. Each state that shares a store has its own. */
export function storeMarkerNameOf(stateKey: string): string {
  return `${storedNamePrefix(stateKey)}store.json`;
}

/** Returns what the names of all claims to the store of a state begin with. */
export function storeClaimPrefix(stateKey: string): string {
  return `${storedNamePrefix(stateKey)}claim-`;
}

/** Returns the name of the object with which a database claims the store. */
export function storeClaimNameOf(stateKey: string, id: string): string {
  return `${storeClaimPrefix(stateKey)}${id}.json`;
}

/**
 * Encodes a key without `-`, so that no key is the beginning of another one in a name. Cuts a key that is too long for
 * the name of a file. The digest after `~`, which no other encoded key contains, keeps such keys apart.
 */
function encodeKey(stateKey: string): string {
  const encoded = Buffer.from(stateKey, 'utf8')
    .toString('latin1')
    .replace(/[^A-Za-z0-9_.]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase().padStart(2, '0')}`);
  if (encoded.length <= limits.maxStoredKeyCharacters) return encoded;
  const digest = createHash('sha256').update(stateKey, 'utf8').digest('hex').slice(0, KEY_DIGEST_CHARACTERS);
  const start = encoded.slice(0, limits.maxStoredKeyCharacters - KEY_DIGEST_CHARACTERS - 1);
  return `${start.replace(/%.?$/, '')}~${digest}`;
}

const KEY_DIGEST_CHARACTERS = 32;

/** Returns undefined for a key that was cut, and null for a text that no key is encoded as. */
function decodeKey(encoded: string): string | undefined | null {
  if (/^[\w.%]*~[0-9a-f]{32}$/.test(encoded)) return undefined;
  try {
    const key = decodeURIComponent(encoded);
    return encodeKey(key) === encoded ? key : null;
  } catch {
    return null;
  }
}
