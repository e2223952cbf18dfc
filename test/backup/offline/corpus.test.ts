import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { openBackupFile } from '../../../src/backup/offline/file.ts';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { isLoomError } from '../../../src/errors.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { corpusFolder, readCorpus } from '../../setup/backup/corpus.ts';

const corpus = await readCorpus();

/** Returns code and place of the first fault; undefined for a verified file. */
async function verdictOf(file: string) {
  const open = await openBackupFile(fileURLToPath(new URL(file, corpusFolder)));
  return await verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION }).then(
    () => undefined,
    (error: unknown) => {
      if (!isLoomError(error)) throw error;
      return { code: error.code, place: { ...error.place } };
    },
  );
}

// At every depth: a restore and a drill of all files take long, but the offline verifier does not.
describe('the offline verifier', () => {
  it.each(corpus.spoiled)('refuses $file: $why', async ({ file, code, place = {} }) => {
    const verdict = await verdictOf(file);
    if (code === null) expect(verdict).toBeUndefined();
    else expect(verdict).toMatchObject({ code, place });
  });

  it.each(corpus.good)('accepts $file if it has a manifest', async ({ file, verified }) => {
    expect((await verdictOf(file))?.code).toBe(verified ? undefined : 'backup_unverified');
  });
});
