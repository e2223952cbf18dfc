import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type VerifiedBackup, verifyBackup } from '../../../src/backup/offline/verifier.ts';
import type { RestoreReport } from '../../../src/domain/backup.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { rewritings, toolRewritings } from '../../setup/backup/rewritings.ts';
import { putText, writeBackup } from '../../setup/backup/written-backup.ts';
import { rounds } from '../../setup/depth.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { verify } from '../../setup/node/store.ts';
import { documentName, jsonText } from '../../setup/values/arbitrary.ts';
import { oddDocument, oddNames } from '../../setup/values/odd-documents.ts';

const everyRewriting = Object.entries({ ...rewritings, ...toolRewritings() });

let nodes: TestNodes;
let text: string;
let documents: number;

beforeAll(async () => {
  nodes = await openNodes();
  const { node } = nodes;
  await node.put('odd', { ...JSON.parse(oddDocument(1)), filler: 'Lorem ipsum' });
  await node.put('numbers', [1e21, 1e-7, 0.00001, 0.0001, -0.5, 5e-324, Number.MAX_VALUE, 2 ** 53 - 1, -(2 ** 53), 0]);
  await node.put('strings', ['\u007f\u0080\u2028\ufeff', '\b\f\n\r\t\u0001', '😀/\\"', 'ü', '\r\n']);
  for (const name of oddNames) await node.put(name, { name });
  await node.commit({ idempotencyKey: 'key', changes: [{ op: 'delete', name: 'null' }] });
  text = await node.backup();
  documents = oddNames.length + 2;
});
afterAll(() => nodes.close());

function verifyText(content: string): Promise<VerifiedBackup> {
  const open = async function* () {
    yield Buffer.from(content);
  };
  return verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION });
}

it('the rewritings are different texts of the same value', () => {
  const texts = everyRewriting.map(([, rewrite]) => rewrite(text));
  expect(new Set(texts).size).toBeGreaterThanOrEqual(Object.keys(rewritings).length);
  for (const one of texts) expect(JSON.parse(one)).toEqual(JSON.parse(text));
});

it.each(everyRewriting)('%s: the backup is accepted as verified, and nothing in it is new', async (_name, rewrite) => {
  const rewritten = rewrite(text);
  expect(await verifyText(rewritten)).toMatchObject({ documents, auditEntries: documents + 2 });
  const nothingNew = { verified: true, documents: { added: 0, changed: 0, removed: 0, unchanged: documents } };
  expect(await nodes.node.restore(rewritten, { dry_run: true })).toMatchObject(nothingNew);
  const report: RestoreReport = await nodes.node.restore(rewritten);
  expect(report).toMatchObject({ ...nothingNew, imported_audit_count: 0 });
  expect(await verify(nodes.node)).toMatchObject({ ok: true });
});

const randomDocuments = fc.uniqueArray(fc.tuple(documentName, jsonText), {
  maxLength: 8,
  selector: ([name]) => name,
});

function backupOf(given: [string, string][]): string {
  return writeBackup({
    documents: given,
    entries: given.map(([name, value], index) => putText(index + 1, name, value)),
  });
}

it('a backup of random documents is accepted as verified after every rewriting', async () => {
  const fresh = await openNodes();
  try {
    await fc.assert(
      fc.asyncProperty(randomDocuments, fc.constantFrom(...Object.keys(rewritings)), async (given, name) => {
        const backup = backupOf(given);
        for (const rewrite of Object.values(rewritings)) {
          expect(await verifyText(rewrite(backup))).toMatchObject({
            documents: given.length,
            auditEntries: given.length,
          });
        }
        const report = await fresh.node.restore(rewritings[name]?.(backup) ?? '', { dry_run: true });
        expect(report).toMatchObject({ verified: true, imported_audit_count: given.length });
      }),
      { numRuns: rounds({ quick: 8, full: 100 }) },
    );
  } finally {
    await fresh.close();
  }
}, 120_000);

it('a backup of random documents is accepted as verified after every tool of this machine', async () => {
  const backups = fc.sample(randomDocuments, rounds({ quick: 1, full: 5 })).map(backupOf);
  for (const [name, rewrite] of Object.entries({ ...toolRewritings(), 'JSON.stringify': rewritings['as it is'] })) {
    for (const backup of backups) {
      const verdict = verifyText(rewrite?.(backup) ?? '').then(
        () => 'matches',
        (error) => `${error} in ${backup}`,
      );
      expect(`${name}: ${await verdict}`).toBe(`${name}: matches`);
    }
  }
});
