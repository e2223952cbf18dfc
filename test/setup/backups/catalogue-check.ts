import { createHash } from 'node:crypto';
import { expect } from 'vitest';
import { manifestNameOf } from '../../../src/backup/stored/stored-name.ts';
import type { CatalogueEntry } from '../../../src/domain/backup-run.ts';
import { readCatalogue } from '../../../src/runs/catalogue.ts';
import type { BackupNode, BackupSite } from './backup-node.ts';

/**
 * Compares the catalogue with the store, after all nodes have recovered: each row has its object and manifest, with the
 * recorded digests, and no other object is there. The newest proven backup can be restored.
 */
export async function expectCatalogueIsTrue({ objects }: BackupSite, node: BackupNode): Promise<void> {
  const catalogue = await readCatalogue(node.ledger);
  const expected = catalogue.flatMap(({ name }) => [name, manifestNameOf(name)]);
  expect((await objects.names()).toSorted()).toEqual(expected.toSorted());
  for (const entry of catalogue) expect(await digestsOf(entry, objects), entry.name).toEqual(recordedDigests(entry));
  await expectNewestRestores(node, catalogue);
  expect(await node.node.store.readScratchStates()).toEqual([]);
}

/**
 * Asserts what must be true at any moment, without recovery: each object belongs to a row that is not deleted, and each
 * complete backup that nobody is deleting has its object and manifest.
 */
export async function expectNothingLost({ objects }: BackupSite, observer: BackupNode, label: string): Promise<void> {
  const catalogue = await readCatalogue(observer.ledger);
  const names = new Set(await objects.names());
  const known = new Set(catalogue.flatMap(({ name }) => [name, manifestNameOf(name)]));
  expect(
    [...names].filter((name) => !name.startsWith('.') && !known.has(name)),
    label,
  ).toEqual([]);
  const complete = catalogue.filter(({ bytes, deletionBegunAt }) => bytes !== null && deletionBegunAt === null);
  for (const { name, bytes } of complete) {
    expect(names.has(manifestNameOf(name)), label).toBe(true);
    expect((await objects.read(name)).length, label).toBe(bytes);
  }
  expect(complete.some(isProven), label).toBe(true);
}

function isProven({ proven_at: provenAt }: CatalogueEntry): boolean {
  return provenAt !== null;
}

/** Proves the newest proven backup again. */
export async function expectNewestRestores(node: BackupNode, catalogue: CatalogueEntry[]): Promise<void> {
  const newest = catalogue.find(({ proven_at: provenAt }) => provenAt !== null);
  if (newest === undefined) throw new Error('no backup is proven');
  expect(await (await node.runs.drill(newest.name)).ended).toMatchObject({ outcome: 'proven', name: newest.name });
}

function recordedDigests({ bytes, sha256, manifestSha256 }: CatalogueEntry) {
  return { bytes, sha256, manifestSha256 };
}

async function digestsOf({ name }: CatalogueEntry, objects: BackupSite['objects']) {
  const object = await objects.read(name);
  return {
    bytes: object.length,
    sha256: digestOf(object),
    manifestSha256: digestOf(await objects.read(manifestNameOf(name))),
  };
}

function digestOf(bytes: Buffer): string {
  return createHash('sha256').update(bytes).digest('hex');
}
