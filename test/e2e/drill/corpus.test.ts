import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { corpusFolder, readCorpus, readCorpusFile } from '../../setup/backup/corpus.ts';
import { BACKUP, type Drilled, failedSteps, runDrill, scratchKeys, useDrillSite } from '../../setup/cli/drill.ts';
import { sampleByKind } from '../../setup/depth.ts';
import { digestTables } from '../../setup/server/digest.ts';

const corpus = await readCorpus();
const site = useDrillSite();

describe('with each good backup of the corpus', () => {
  it.each(corpus.good)('$file: $why', async ({ file, verified, documents, entries }) => {
    const { code, report } = await runDrill(site, ['--file', fileURLToPath(new URL(file, corpusFolder))]);
    if (verified) {
      expect(failedSteps(report)).toEqual([]);
      expect(report.backup).toMatchObject({ documents, audit_entries: entries });
    } else {
      // Without a manifest a drill can prove nothing.
      expect(failedSteps(report)).toEqual([{ step: 'verify', code: 'backup_unverified' }]);
    }
    expect([code, report.ok]).toEqual(verified ? [0, true] : [1, false]);
    expect(await scratchKeys(site)).toEqual([]);
  });
});

type Spoiled = (typeof corpus.spoiled)[number];

/** Names the first step that can find the fault. */
function stepOf({ code }: Spoiled): string {
  return code === null ? 'plan' : 'verify';
}

describe('with each spoiled backup of the corpus', () => {
  /** Expects a failure with the code at the first step that can find the fault, and that later steps are skipped. */
  function expectFailure({ code, report, summary }: Drilled, spoiled: Spoiled): void {
    const step = stepOf(spoiled);
    expect([code, report.ok]).toEqual([1, false]);
    expect(failedSteps(report)[0]).toEqual({ step, code: spoiled.code ?? spoiled.restore?.code });
    const after = report.steps.slice(report.steps.findIndex((one) => one.step === step) + 1);
    const needy = after.filter(
      (one) => !['untouched', ...(spoiled.code === null ? ['live_chain'] : [])].includes(one.step),
    );
    expect(needy.map(({ outcome }) => outcome)).toEqual(needy.map(() => 'skipped'));
    expect(report.restored).toBeNull();
    expect(summary).toContain('# Restore drill: FAILED');
  }

  // A drill calls the verifier of `verify`. That one gets each kind of fault in test/persistence/backup/corpus.test.ts,
  // so at quick depth a few files suffice of those that the drill refuses at the same step.
  it.each(sampleByKind(corpus.spoiled, stepOf, { purpose: 'drill of a file', perKind: 4 }))(
    'given as a file, $file: $why',
    async (spoiled) => {
      const before = await digestTables(site.server.pool);
      expectFailure(await runDrill(site, ['--file', fileURLToPath(new URL(spoiled.file, corpusFolder))]), spoiled);
      expect(await digestTables(site.server.pool)).toEqual(before);
    },
  );

  // The node's answer takes the same way after its download, so a few files suffice at quick depth.
  it.each(sampleByKind(corpus.spoiled, () => 'any', { purpose: 'drill of an answer', perKind: 2 }))(
    'answered by the node, $file: $why',
    async (spoiled) => {
      const bytes = await readCorpusFile(spoiled.file);
      site.proxy.intercept((asked, answer) => {
        if (asked.url?.startsWith(BACKUP) !== true) return false;
        answer.writeHead(200, { 'content-type': 'application/json' }).end(bytes);
        return true;
      });
      const before = await digestTables(site.server.pool);
      expectFailure(await runDrill(site), spoiled);
      expect(await digestTables(site.server.pool)).toEqual(before);
    },
  );
});
