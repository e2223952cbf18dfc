import { readdir, readFile } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { CURRENT_SCHEMA_VERSION } from '../../src/persistence/schema/schema.ts';
import type { ParsedBackup } from '../setup/backup/chain.ts';
import { openNodes } from '../setup/node/nodes.ts';
import { verify } from '../setup/node/store.ts';

const folder = new URL('../fixtures/backups/', import.meta.url);
// Another test restores the corpus of good and spoiled files in the same folder.
const files = (await readdir(folder)).filter((name) => name.startsWith('schema-'));

it('there is one backup of every schema version', () => {
  const versions = Array.from({ length: CURRENT_SCHEMA_VERSION }, (_, index) => `schema-${index + 1}.json`);
  expect(files.toSorted()).toEqual(versions.toSorted());
});

it.each(files)('%s restores into an empty database, and the trail continues from there', async (file) => {
  const text = await readFile(new URL(file, folder), 'utf8');
  const backup: ParsedBackup = JSON.parse(text);
  expect(file).toBe(`schema-${backup.schema_version}.json`);
  const nodes = await openNodes();
  const { node } = nodes;
  try {
    const { length: entries } = backup.audit_entries;
    expect(entries).toBeGreaterThan(15);
    const report = await node.restore(text);
    expect(report).toMatchObject({
      verified: true,
      imported_audit_count: entries,
      revision: backup.revision + 1,
      documents: { added: backup.manifest.documents },
    });
    expect(await node.state()).toEqual(backup.state);
    // Merges of earlier versions have no digest, so the restore records their documents in an entry of its own.
    const recorded = report.audit.head?.seq === entries + 1 ? 0 : 1;
    expect(recorded).toBe(['schema-2.json', 'schema-3.json'].includes(file) ? 1 : 0);
    expect(await verify(node)).toMatchObject({ ok: true, entries: entries + 1 + recorded });
    const adopted = await node.store.readAudit({ limit: entries, order: 'asc' });
    expect(adopted.entries.map((one) => JSON.parse(one.text))).toEqual(backup.audit_entries);

    const again: ParsedBackup = JSON.parse(await node.backup());
    expect(again.manifest).toMatchObject({ state_sha256: backup.manifest.state_sha256, audit_verified: true });
    await node.put('after', 1);
    expect(await verify(node)).toMatchObject({ ok: true, entries: entries + 2 + recorded });
  } finally {
    await nodes.close();
  }
});
