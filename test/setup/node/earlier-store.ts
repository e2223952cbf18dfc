import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { gunzipSync } from 'node:zlib';
import { openTestStore, type StoreCode, type TestStore, type TestStoreOptions } from './store.ts';

const fixtures = new URL('../../fixtures/nodes/', import.meta.url);
const packages = fileURLToPath(new URL('../../../node_modules', import.meta.url));

/** Nodes of these schema versions can serve beside a new one. */
export const earlierVersions = [2, 3, 4, 5, 6] as const;
export type EarlierVersion = (typeof earlierVersions)[number];

const loaded = new Map<EarlierVersion, Promise<StoreCode>>();

/** Opens the store of a node of an earlier schema version: its own code, as `test/fixtures/nodes` keeps it. */
export async function openEarlierStore(
  version: EarlierVersion,
  url: string,
  options: TestStoreOptions = {},
): Promise<TestStore> {
  const code = loaded.get(version) ?? load(version);
  loaded.set(version, code);
  return openTestStore(url, { ...options, code: await code });
}

/** The code imports packages, so it needs `node_modules` beside it. */
async function load(version: EarlierVersion): Promise<StoreCode> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-earlier-'));
  try {
    await mkdir(join(directory, 'migrations'));
    await symlink(packages, join(directory, 'node_modules'));
    const file = join(directory, 'store.mjs');
    await writeFile(file, gunzipSync(await readFile(new URL(`schema-${version}.mjs.gz`, fixtures))));
    return (await import(/* @vite-ignore */ pathToFileURL(file).href)) as StoreCode;
  } finally {
    await rm(directory, { recursive: true });
  }
}
