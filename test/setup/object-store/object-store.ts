import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ObjectStore } from '../../../src/domain/object-store.ts';
import { type ObjectStoreOptions, openObjectStore } from '../../../src/object-store/object-store.ts';

/**
 * Gives a test a backup store of its own, of either kind, and access to its bytes past the store.
 *
 *     const store = await createTestStore('file');
 *     const objects = store.open(); // an ObjectStore
 *     await store.remove();
 */
export interface TestStore {
  kind: StoreKind;
  options: ObjectStoreOptions;
  /** Value for `LOOM_BACKUP_STORE`. */
  url: string;
  open(): ObjectStore;
  /** Names of everything that lies in the store, temporary objects and parts of uploads included. */
  names(): Promise<string[]>;
  /** Bytes of an object, past the store. */
  read(name: string): Promise<Buffer>;
  /** Replaces an object, past the store: damages or plants it. */
  write(name: string, content: Uint8Array): Promise<void>;
  delete(name: string): Promise<void>;
  /** Leaves an unfinished write of this object behind, as a killed process does. */
  abandon(name: string): Promise<void>;
  remove(): Promise<void>;
}

export type StoreKind = 'file' | 's3';

export const storeKinds: readonly StoreKind[] = ['file'];

export function createTestStore(_kind: StoreKind): Promise<TestStore> {
  return createFileTestStore();
}

async function createFileTestStore(): Promise<TestStore> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-test-store-'));
  const options: ObjectStoreOptions = { kind: 'file', directory };
  return {
    kind: 'file',
    options,
    url: `file://${directory}`,
    open: () => openObjectStore(options),
    names: () => readdir(directory),
    read: (name) => readFile(join(directory, name)),
    write: (name, content) => writeFile(join(directory, name), content),
    delete: (name) => rm(join(directory, name)),
    abandon: async (name) => {
      const part = join(directory, `.${name}.0123456789abcdef.part`);
      await writeFile(part, 'unfinished');
      await utimes(part, new Date(), new Date());
    },
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}
