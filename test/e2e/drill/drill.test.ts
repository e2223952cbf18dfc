import { readdirSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { drill } from '../../../src/cli/drill.ts';
import { limits } from '../../../src/limits.ts';
import { runCommand } from '../../setup/cli/command.ts';
import { BACKUP, failedSteps, outcomes, put, runDrill, scratchKeys, useDrillSite } from '../../setup/cli/drill.ts';
import { rounds } from '../../setup/depth.ts';
import { ADMIN_TOKEN, asAdmin, createTestServer } from '../../setup/node/http.ts';

const RESTORE = '/v1/admin/persistence/restore';
const site = useDrillSite();

/** Reads all tables, without the time of the last backup, which a drill changes. */
async function liveTables(): Promise<unknown> {
  const { rows } = await site.server.pool.query(
    `select (select jsonb_agg(to_jsonb(d) order by state_key, name) from loom_document d) as documents,
            (select jsonb_agg(to_jsonb(a) order by state_key, seq) from loom_audit a) as audit,
            (select jsonb_agg(to_jsonb(s) - 'last_backup_at' order by state_key) from loom_state s) as states`,
  );
  return rows;
}

describe('on a healthy node', () => {
  it('every step succeeds, only the report remains, and it says what the drill did', async () => {
    const before = await liveTables();
    const { code, report, summary, stderr } = await runDrill(site);
    expect(outcomes(report)).toEqual(
      [
        'status',
        'backup',
        'verify',
        'plan',
        'restore',
        'compare',
        'restored_chain',
        'live_chain',
        'remove',
        'untouched',
      ].map((step) => `${step} ok`),
    );
    expect([code, stderr]).toEqual([0, '']);
    expect(await liveTables()).toEqual(before);
    expect((await readdir(site.out)).toSorted()).toEqual(['report.json', 'summary.md']);
    expect(report).toMatchObject({
      drill_report_version: 1,
      ok: true,
      in_place: false,
      node: { state_key: 'default', revision: 3 },
      backup: { file: null, documents: 3, audit_entries: 3, revision: 3 },
      restored: { documents: 3, scratch_key: expect.stringMatching(/^drill-\d{8}T\d{6}Z-[0-9a-f]{6}$/) },
    });
    expect(report.restored?.state_sha256).toBe(report.backup?.state_sha256);
    expect(report.steps.at(-1)?.detail).toContain('the documents by their digest');
    expect(summary).toContain('# Restore drill: passed');
  });

  it('removes the report of an earlier drill first', async () => {
    await writeFile(join(site.out, 'report.json'), '{"drill_report_version":1,"ok":true}');
    let reports: string[] | undefined;
    site.proxy.intercept(() => {
      reports ??= readdirSync(site.out).filter((name) => !name.startsWith('.'));
      return false;
    });
    await runDrill(site);
    expect(reports).toEqual([]);
  });

  it('the name of the scratch state precedes the backup, so that the live state is not locked', async () => {
    let body = '';
    site.proxy.intercept((asked) => {
      if (asked.url === RESTORE) {
        asked.once('data', (chunk: Buffer) => {
          body = chunk.toString('latin1');
        });
      }
      return false;
    });
    expect((await runDrill(site)).code).toBe(0);
    expect(body.indexOf('"into_scratch"')).toBeGreaterThan(0);
    expect(body.indexOf('"into_scratch"')).toBeLessThan(body.indexOf('"backup"'));
  });

  it('a drill succeeds while others write', async () => {
    let writes = 0;
    site.proxy.intercept((asked, answer) => {
      if (asked.url === RESTORE) {
        answer.prependOnceListener('finish', () => {
          writes += 1;
          void put(site, `meanwhile-${writes}`, 1);
        });
      }
      return false;
    });
    const { code, report } = await runDrill(site);
    expect(failedSteps(report)).toEqual([]);
    expect([code, writes]).toEqual([0, 2]);
    expect(report.steps.at(-1)?.detail).toContain('others have committed meanwhile');
  });

  it('--keep keeps the backup, and --file uses it in another drill', async () => {
    expect((await runDrill(site, ['--keep'])).code).toBe(0);
    const { code, report } = await runDrill(site, ['--file', join(site.out, 'backup.json')]);
    expect(code).toBe(0);
    expect(outcomes(report)).toContain('backup skipped');
    expect(report.backup?.file).toBe(join(site.out, 'backup.json'));
    expect(report.steps.find(({ step }) => step === 'live_chain')?.detail).toContain('the last one of the backup');
  });

  it('a file of another node passes, and the report says that the live trail does not have its last entry', async () => {
    const other = fileURLToPath(new URL('../../fixtures/backups/schema-1.json', import.meta.url));
    const { code, report, summary } = await runDrill(site, ['--file', other]);
    expect([code, failedSteps(report)]).toEqual([0, []]);
    expect(report.steps.find(({ step }) => step === 'live_chain')?.detail).toMatch(
      /; BUT entry 21, the last one of the backup, is not in the live trail: .* verify it --against "\/.*schema-1.json"$/,
    );
    expect(summary).toContain('| the live audit chain is valid | ok |');
    expect(summary).not.toContain('and contains the end of the backup');
    expect((await runDrill(site)).summary).toContain(
      '| the live audit chain is valid, and contains the end of the backup | ok |',
    );
  });

  it('a file of another state key is used when --accept-state-key names it', async () => {
    const other = await createTestServer({ LOOM_PG_STATE_KEY: 'other' });
    const body = (await other.request('GET', BACKUP, { headers: asAdmin })).text;
    await other.close({ timeoutMs: 1_000 });
    const file = join(site.out, 'other.json');
    await writeFile(file, body);
    const refused = await runDrill(site, ['--file', file]);
    expect(failedSteps(refused.report)).toEqual([{ step: 'plan', code: 'state_key_mismatch' }]);
    expect(refused.summary).toContain('--accept-state-key KEY');
    const { code, report } = await runDrill(site, ['--file', file, '--accept-state-key', 'other']);
    expect([code, failedSteps(report)]).toEqual([0, []]);
  });

  it('a drill in place asks, restores the live state, and finds the same documents', async () => {
    expect(await runCommand(drill, ['--in-place'], { env: { LOOM_ADMIN_TOKEN: ADMIN_TOKEN } })).toMatchObject({
      code: 64,
    });
    const refused = await runCommand(drill, ['--in-place', '--out', site.out], {
      env: { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: site.proxy.url },
      answers: ['yes'],
    });
    expect(refused).toMatchObject({ code: 1, stderr: 'Nothing was changed.\n' });
    expect(site.proxy.asked).toEqual([]);
    const { code, report } = await runDrill(site, ['--in-place'], { answers: ['restore'] });
    expect(failedSteps(report)).toEqual([]);
    expect([code, report.in_place, report.restored?.scratch_key]).toEqual([0, true, null]);
    expect((await site.server.request('GET', '/v1/audit?action=restore')).json().entries).toHaveLength(1);
  });

  it('a drill in place does not revert documents that others have written since its backup', async () => {
    const { report: first } = await runDrill(site, ['--keep']);
    expect(first.ok).toBe(true);
    const old = await readFile(join(site.out, 'backup.json'));
    await put(site, 'written-since', 1);
    site.proxy.intercept((question, answer) => {
      if (question.url?.startsWith(BACKUP) !== true) return false;
      answer.writeHead(200, { 'content-type': 'application/json' }).end(old);
      return true;
    });
    const { code, report } = await runDrill(site, ['--in-place', '--yes']);
    expect(code).toBe(1);
    expect(failedSteps(report)).toEqual([{ step: 'plan', code: 'drill_failed' }]);
    expect((await site.server.request('GET', '/v1/documents/written-since')).status).toBe(200);
  });
});

describe('with a node that answers wrongly', () => {
  /** Changes the node's JSON answer before the drill receives it. */
  function spoilAnswer(isMeant: (path: string) => boolean, spoil: (answer: Record<string, unknown>) => void): void {
    site.proxy.intercept((asked, answer) => {
      if (!isMeant(asked.url ?? '')) return false;
      const { writeHead, write, end } = answer;
      const chunks: Buffer[] = [];
      let status = 200;
      answer.writeHead = ((code: number) => {
        status = code;
        return answer;
      }) as typeof writeHead;
      answer.write = ((chunk: Buffer) => chunks.push(chunk) > 0) as typeof write;
      answer.end = (() => {
        const body = JSON.parse(Buffer.concat(chunks).toString()) as Record<string, unknown>;
        spoil(body);
        Object.assign(answer, { write, end });
        writeHead.call(answer, status, { 'content-type': 'application/json' });
        return end.call(answer, JSON.stringify(body), 'utf8');
      }) as typeof end;
      return false;
    });
  }

  it('a wrong digest fails the comparison, and the scratch state is removed', async () => {
    spoilAnswer(
      (path) => path === RESTORE,
      (body) => {
        if (body.scratch !== null) Object.assign(body.scratch as object, { state_sha256: '0'.repeat(64) });
      },
    );
    const { code, report } = await runDrill(site);
    expect([code, failedSteps(report)]).toEqual([1, [{ step: 'compare', code: 'drill_failed' }]]);
    expect(outcomes(report)).toContain('remove ok');
    expect(await scratchKeys(site)).toEqual([]);
  });

  it('a restore that differs from its plan fails the comparison', async () => {
    spoilAnswer(
      (path) => path === RESTORE,
      (body) => {
        if (body.dry_run === true) Object.assign(body.audit as object, { adopted: 0 });
      },
    );
    const { code, report } = await runDrill(site);
    expect([code, failedSteps(report)]).toEqual([1, [{ step: 'compare', code: 'drill_failed' }]]);
  });

  it.each([
    ['restored_chain', (path: string) => path.startsWith('/v1/audit/verify?')],
    ['live_chain', (path: string) => path === '/v1/audit/verify'],
  ])('a broken chain fails the step %s', async (step, isMeant) => {
    spoilAnswer(isMeant, (body) =>
      Object.assign(body, { ok: false, first_bad_seq: 2, reason: 'hash_mismatch', detail: 'Entry 2 was changed.' }),
    );
    const { code, report, summary } = await runDrill(site);
    expect([code, failedSteps(report)]).toEqual([1, [{ step, code: 'drill_failed' }]]);
    expect(summary).toContain('The audit chain is broken at entry 2');
    expect(await scratchKeys(site)).toEqual([]);
  });

  it('a fresh backup whose last entry is not in the live trail fails', async () => {
    spoilAnswer(
      (path) => path.startsWith('/v1/audit?'),
      (body) => Object.assign(body, { entries: [] }),
    );
    const { code, report } = await runDrill(site);
    expect(code).toBe(1);
    expect(failedSteps(report).map(({ step }) => step)).toContain('live_chain');
  });

  it('a scratch state that cannot be removed is named, and the report says that it still exists', async () => {
    site.proxy.intercept((asked, answer) => {
      if (asked.method !== 'DELETE') return false;
      answer.writeHead(502, { 'content-type': 'text/html' }).end('<html>');
      return true;
    });
    const { code, report } = await runDrill(site);
    expect([code, failedSteps(report)]).toEqual([
      1,
      [
        { step: 'remove', code: 'unexpected_answer' },
        { step: 'untouched', code: 'drill_failed' },
      ],
    ]);
    const [left = ''] = await scratchKeys(site);
    expect(report.steps.at(-1)?.detail).toContain(left);
    expect(left).toBe(report.restored?.scratch_key);
    await site.server.request('DELETE', `/v1/admin/persistence/scratch/${left}`, {
      headers: { 'x-loom-admin-token': ADMIN_TOKEN },
    });
    expect(await scratchKeys(site)).toEqual([]);
  });

  it('an unreachable node fails the first step, and the rest is skipped', async () => {
    const { code, report } = await runDrill(site, ['--url', 'http://127.0.0.1:1']);
    expect(code).toBe(1);
    expect(failedSteps(report)).toEqual([{ step: 'status', code: 'unreachable' }]);
    expect(
      new Set(
        outcomes(report)
          .slice(1)
          .map((one) => one.split(' ')[1]),
      ),
    ).toEqual(new Set(['skipped']));
  });

  it('a truncated backup fails the drill', async () => {
    site.proxy.intercept((asked, answer) => {
      if (asked.url?.startsWith(BACKUP) !== true) return false;
      answer.writeHead(200, { 'content-type': 'application/json' });
      answer.write('{"loom_backup_version":1,', () => answer.destroy());
      return true;
    });
    const { code, report } = await runDrill(site);
    expect([code, failedSteps(report)]).toEqual([1, [{ step: 'backup', code: 'connection_cut' }]]);
  });
});

describe('when it is stopped', () => {
  it.each([
    ['during the backup', BACKUP, 1],
    ['during the plan', RESTORE, 1],
    ['during the restore', RESTORE, 2],
    ['while the restored chain is verified', '/v1/audit/verify?', 1],
  ])('%s, it cleans up, reports, and fails', async (_when, path, times) => {
    const controller = new AbortController();
    let seen = 0;
    site.proxy.intercept((asked) => {
      if (asked.url?.startsWith(path) === true) seen += 1;
      if (seen === times && !controller.signal.aborted) setImmediate(() => controller.abort());
      return false;
    });
    const before = await site.server.request('GET', '/v1/state');
    const { code, report } = await runDrill(site, [], { stop: controller.signal });
    expect([code, report.ok]).toEqual([1, false]);
    expect(report.steps).toHaveLength(10);
    expect(await scratchKeys(site)).toEqual([]);
    const after = await site.server.request('GET', '/v1/state');
    expect([after.headers.etag, after.text]).toEqual([before.headers.etag, before.text]);
    expect((await readdir(site.out)).toSorted()).toEqual(['report.json', 'summary.md']);
  });
});

it('contradictory options and unusable paths are refused', async () => {
  const file = join(site.out, 'x.json');
  await writeFile(file, '{}');
  const env = { LOOM_ADMIN_TOKEN: ADMIN_TOKEN };
  for (const args of [['--keep', '--file', file], ['--yes'], ['more'], ['--unknown']]) {
    expect(await runCommand(drill, args, { env })).toMatchObject({
      code: 64,
      stderr: expect.stringContaining('\nSee node dist/main.js drill --help.\n'),
    });
  }
  const missing = join(site.out, 'nothing');
  for (const [args, fault] of [
    [['--file', missing], `${missing}: There is no such file or folder.`],
    [['--file', site.out], `${site.out}: This is a folder, not a file.`],
    [['--out', file], `${file}: This is a file, not a folder.`],
    // No folder can exist there, and the command does not retry forever.
    [['--out', '/proc/loom/drill'], '/proc/loom: There is no such file or folder.'],
    [['--out', join(file, 'below')], `${file}/below: A part of this path is a file, not a folder.`],
  ] as const) {
    const stderr = `drill failed: ${fault}\n`;
    expect(await runCommand(drill, [...args], { env })).toEqual({ code: 1, stdout: '', stderr });
  }
});

// This test comes last: its entry makes every later backup larger.
it('a drill succeeds when the last audit entry is longer than a page of the trail', async () => {
  const text = 'x'.repeat(rounds({ quick: limits.maxPageBytes / 2, full: 6 * 2 ** 20 }));
  const headers = { 'content-type': 'application/merge-patch+json' };
  const body = JSON.stringify({ 'large-1': text, 'large-2': text });
  expect((await site.server.request('PATCH', '/v1/state', { headers, body })).status).toBe(200);
  const { code, report } = await runDrill(site);
  expect([code, failedSteps(report)]).toEqual([0, []]);
});
