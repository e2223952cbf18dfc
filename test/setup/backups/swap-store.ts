import { mkdir, rename, rm } from 'node:fs/promises';
import { storeMarkerNameOf } from '../../../src/backup/stored/stored-name.ts';
import type { TestStore } from '../object-store/object-store.ts';

/** Name of the marker of the store that the nodes of a test use. */
export const MARKER = storeMarkerNameOf('default');

/**
 * Replaces the store by an empty one under the same address, as a volume does that is not mounted. Returns a function
 * that brings everything back.
 */
export async function swapStore(objects: TestStore): Promise<() => Promise<void>> {
  return objects.options.kind === 'file' ? swapFolder(objects.options.directory) : emptyBucket(objects);
}

async function swapFolder(directory: string): Promise<() => Promise<void>> {
  const aside = `${directory}-aside`;
  await rename(directory, aside);
  await mkdir(directory);
  return async () => {
    await rm(directory, { recursive: true });
    await rename(aside, directory);
  };
}

async function emptyBucket(objects: TestStore): Promise<() => Promise<void>> {
  const kept: [name: string, content: Buffer][] = [];
  for (const name of [...(await objects.names()), MARKER]) {
    kept.push([name, await objects.read(name)]);
    await objects.delete(name);
  }
  return async () => {
    for (const [name, content] of kept) await objects.write(name, content);
  };
}
