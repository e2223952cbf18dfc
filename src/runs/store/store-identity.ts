// src/runs/store/ knows which store this is and who else uses it, and watches whether it works. It imports what its
// parent may, and knows nothing of schedules and runs.

import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { parseStoreMarker, writeStoreMarker } from '../../backup/stored/store-marker.ts';
import { readStoredManifest } from '../../backup/stored/stored-manifest.ts';
import { manifestNameOf, storeMarkerNameOf } from '../../backup/stored/stored-name.ts';
import type { CatalogueEntry } from '../../domain/backup-run.ts';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { RunParts } from '../parts.ts';

/** Names what the identity of a store needs. */
export type IdentityParts = Pick<RunParts, 'ledger' | 'store' | 'stateKey'>;

/**
 * Returns the id of the store for a new backup. A store without an id receives one if the catalogue is empty. Throws
 * `store_failed` if this is not the store that the catalogue describes. Makes the claim to the store: backups that are
 * named from now on belong to this database.
 */
export async function claimStore(parts: IdentityParts, signal: AbortSignal): Promise<string> {
  const { ledger } = parts;
  const known = await readStoreId(parts, signal);
  const own = randomUUID();
  const id = known ?? (await putMarker(parts, own, signal));
  const claim = await ledger.readStoreClaim(id);
  // Nobody else can have used a store that this node has just marked.
  if (id === own) await ledger.settleClaim(claim.id);
  return id;
}

/**
 * Returns the id of the store that the catalogue describes; undefined for an empty catalogue. Throws `store_failed` if
 * this is another store: a folder that is not mounted looks like an empty store, and a deletion or an absent object
 * would mean nothing there. A store that lost its marker is known by its newest backup, and receives the marker again.
 */
export async function assertSameStore(parts: IdentityParts, signal: AbortSignal): Promise<string | undefined> {
  const newest = await parts.ledger.readNewestComplete();
  const expected = newest?.storeId;
  if (newest === undefined || expected === undefined || expected === null) return undefined;
  const found = await readMarker(parts, signal);
  if (found === expected) return expected;
  if (found === undefined && (await hasBackup(parts, newest, signal))) {
    if ((await putMarker(parts, expected, signal)) === expected) return expected;
  }
  throw anotherStore(parts, expected, found);
}

/** Throws `store_failed` unless the store still has this id: somebody may have replaced it since it was read. */
export async function assertStoreHasId(parts: IdentityParts, id: string, signal: AbortSignal): Promise<void> {
  const found = await readMarker(parts, signal);
  if (found !== id) throw anotherStore(parts, id, found);
}

/**
 * Returns the id of the store for a look at its objects; undefined for a store without an id, if the catalogue is
 * empty. Throws `store_failed` as `assertSameStore` does.
 */
export async function readStoreId(parts: IdentityParts, signal: AbortSignal): Promise<string | undefined> {
  return (await assertSameStore(parts, signal)) ?? (await readMarker(parts, signal));
}

/** Returns the id in the marker; undefined if there is no marker. Throws `store_failed` if it has no id. */
async function readMarker({ store, stateKey }: IdentityParts, signal: AbortSignal): Promise<string | undefined> {
  const name = storeMarkerNameOf(stateKey);
  const text = await readSmall(await openMarker(store, name, signal));
  if (text === undefined) return undefined;
  const id = parseStoreMarker(text);
  if (id !== undefined) return id;
  throw new LoomError(
    'store_failed',
    `The object ${JSON.stringify(name)} of the store ${store.address} has no id. Delete it if the store has the newest ` +
      'backup of the catalogue: the next run writes it again.',
  );
}

async function openMarker(
  store: IdentityParts['store'],
  name: string,
  signal: AbortSignal,
): Promise<Readable | undefined> {
  try {
    return await store.get(name, signal);
  } catch (error) {
    if (isLoomError(error) && error.code === 'stored_backup_missing') return undefined;
    throw error;
  }
}

/** Returns the text of a marker, or the start of an object that is too large for one. */
async function readSmall(content: Readable | undefined): Promise<string | undefined> {
  if (content === undefined) return undefined;
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of content as AsyncIterable<Uint8Array>) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes > limits.maxStoreMarkerBytes) break;
  }
  return Buffer.concat(chunks).toString('utf8');
}

/** Writes the marker. Returns the id that the store has then: another node may have been faster. */
async function putMarker(parts: IdentityParts, id: string, signal: AbortSignal): Promise<string> {
  const { store, stateKey } = parts;
  const content = Readable.from([Buffer.from(writeStoreMarker(id))]);
  let fault: unknown;
  await store.put(storeMarkerNameOf(stateKey), content, signal).catch((error: unknown) => {
    fault = error;
  });
  const found = await readMarker(parts, signal);
  if (found !== undefined) return found;
  throw fault ?? new Error('the marker of the store is absent after it was written');
}

/** Returns whether the store has this backup, by the digest of its manifest. */
async function hasBackup(
  { store }: IdentityParts,
  { name, bytes, manifestSha256 }: CatalogueEntry,
  signal: AbortSignal,
): Promise<boolean> {
  if ((await store.head(name, signal))?.bytes !== bytes) return false;
  try {
    return (await readStoredManifest(await store.get(manifestNameOf(name), signal), name)).sha256 === manifestSha256;
  } catch (error) {
    const isAbsent =
      isLoomError(error) && (error.code === 'stored_backup_missing' || error.code === 'stored_manifest_invalid');
    if (isAbsent) return false;
    throw error;
  }
}

function anotherStore({ store, stateKey }: IdentityParts, expected: string, found: string | undefined): LoomError {
  const name = JSON.stringify(storeMarkerNameOf(stateKey));
  const what = found === undefined ? `has no object ${name}` : `has the id ${found} in ${name}`;
  return new LoomError(
    'store_failed',
    `The store ${store.address} is not the one that the catalogue describes: it ${what}, and the catalogue says ` +
      `${expected}. Nothing is written or deleted there. Check that the volume is mounted and that LOOM_BACKUP_STORE is ` +
      `right. To use this store on purpose, copy all objects there, or write ${writeStoreMarker(expected).trim()} to ${name}.`,
  );
}
