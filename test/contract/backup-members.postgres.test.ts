import { readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { manifestDigest } from '../../src/backup/format/digests.ts';
import { verifyBackup } from '../../src/backup/offline/verifier.ts';
import { CURRENT_SCHEMA_VERSION } from '../../src/persistence/schema/schema.ts';
import { openNodes } from '../setup/node/nodes.ts';
import { codesIn, tableRows } from './rules/tables.ts';

const parts = ['state', 'document_sha256', 'audit_entries', 'manifest'];

async function takeBackup(): Promise<Record<string, unknown>> {
  const nodes = await openNodes();
  try {
    await nodes.node.put('a', 1);
    return JSON.parse(await nodes.node.backup());
  } finally {
    await nodes.close();
  }
}

test('docs/backup-format.md lists exactly the members that a node writes, and each member of the header is checked', async () => {
  const backup = await takeBackup();
  const page = await readFile(new URL('../../docs/backup-format.md', import.meta.url), 'utf8');
  expect(tableRows(page, 'member').flatMap(([member = '']) => codesIn(member))).toEqual(Object.keys(backup));

  const headerNames = Object.keys(backup).filter((name) => !parts.includes(name));
  for (const name of headerNames) {
    const header = Object.fromEntries(headerNames.map((one) => [one, one === name ? {} : backup[one]]));
    const manifest = { ...(backup.manifest as Parameters<typeof manifestDigest>[1]) };
    const spoiled = { ...backup, ...header, manifest: { ...manifest, sha256: manifestDigest(header, manifest) } };
    const verdict = verifyBackup(
      async function* () {
        yield Buffer.from(JSON.stringify(spoiled));
      },
      { schemaVersion: CURRENT_SCHEMA_VERSION },
    );
    const code = name === 'loom_backup_version' ? 'backup_version_unknown' : 'backup_malformed';
    await expect(verdict, name).rejects.toMatchObject({ code });
  }
});
