import type { Readable } from 'node:stream';
import { LoomError } from '../errors.ts';

/** Describes an object in a backup store. */
export interface StoredObject {
  name: string;
  bytes: number;
  /** By the clock of the store. */
  modifiedAt: Date;
}

/** Describes what was written. `sha256` is of the stored bytes, in lower-case hex. */
export interface WrittenObject {
  bytes: number;
  sha256: string;
}

/**
 * Holds backups and their manifests under flat names. An object appears under its name only when it is complete, so no
 * reader finds a part of one. Every verb rejects with a `LoomError` whose code says what to do: `store_unreachable`,
 * `store_refused`, `store_full`, or `store_failed` for everything else. No message has a secret.
 */
export interface ObjectStore {
  /** Names the store for people, such as `file:///var/lib/loom/backups`. */
  readonly address: string;
  /** Writes, reads and deletes a small object, so that a wrong setting shows before the first backup. */
  check(signal: AbortSignal): Promise<void>;
  /**
   * Writes an object. If `content` fails, the store keeps nothing of it. Rejects with `NameTakenError` if the store has
   * an object of this name.
   */
  put(name: string, content: Readable, signal: AbortSignal): Promise<WrittenObject>;
  /** Streams an object. Rejects with `stored_backup_missing` if there is none. Destroying the stream ends the read. */
  get(name: string, signal: AbortSignal): Promise<Readable>;
  /** Returns undefined if there is no such object. */
  head(name: string, signal: AbortSignal): Promise<StoredObject | undefined>;
  /** Lists the objects whose names begin with `prefix`, in any order. Temporary objects are left out. */
  list(prefix: string, signal: AbortSignal): AsyncIterable<StoredObject>;
  /** Deletes an object if it exists. */
  delete(name: string, signal: AbortSignal): Promise<void>;
  /**
   * Deletes the temporary objects and unfinished uploads, of names with `prefix`, that are older than `olderThanMs` at
   * the time `now`. Returns their number.
   */
  sweep(prefix: string, options: { olderThanMs: number; now: Date }, signal: AbortSignal): Promise<number>;
  close(): Promise<void>;
}

/** Says that the store has an object of the name already. Somebody else has written it. */
export class NameTakenError extends LoomError {}

/** Describes the claim of this database to the store of its backups. All times are of the database's clock. */
export interface StoreClaim {
  /** Names the object of the claim in the store. */
  id: string;
  /** Ids of earlier claims of this database. The store may still have their objects. */
  earlier: string[];
  /** Whether the store has had the object. */
  isPlaced: boolean;
  /** Whether the object has been in the store for long enough. */
  isDue: boolean;
  /** Whether all backups of the catalogue belong to this database alone. */
  isSettled: boolean;
  /** Whether another database has used the store within the last minutes. */
  isShared: boolean;
  /** Is also true while another database may not have noticed the claim yet. */
  mayBeShared: boolean;
}

/**
 * Records the claim of this database. A copy of a database has the catalogue of its original, so it must not delete
 * what that lists. A claim that no other database removes from the store shows that there is no other one.
 */
export interface StoreClaims {
  /**
   * Reads the claim. Makes a new one if there is none, or if the claim is that of another store, of another copy of
   * the database, or from before a start of the database's server.
   */
  readStoreClaim(storeId: string): Promise<StoreClaim>;
  /** Records that the store has the object of the claim. */
  recordClaimPlaced(id: string): Promise<void>;
  /** Replaces a claim that another database has removed. Returns false if it is settled, or is another one now. */
  replaceClaim(id: string): Promise<boolean>;
  /** Returns false if the claim is another one now. */
  settleClaim(id: string): Promise<boolean>;
  /** Records that another database has used the store. */
  noteSharedStore(): Promise<void>;
}
