import type { Readable } from 'node:stream';

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
  /** Writes an object. If `content` fails, the store keeps nothing of it. An object of this name must not exist. */
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
