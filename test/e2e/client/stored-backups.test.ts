import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { createEphemeralKey, encryptStream } from '../../../src/backup/stored/encryption.ts';
import { backup } from '../../../src/cli/backup.ts';
import { backups } from '../../../src/cli/backups.ts';
import { drill } from '../../../src/cli/drill.ts';
import { restore } from '../../../src/cli/restore.ts';
import { status } from '../../../src/cli/status.ts';
import { createFakeStoredBackups, STORED_NAME } from '../../setup/backups/fake-stored-backups.ts';
import { useClientSite } from '../../setup/cli/client-site.ts';
import { ADMIN_TOKEN, asAdmin } from '../../setup/node/http.ts';

const stored = createFakeStoredBackups({ endsRuns: false });
const site = useClientSite(stored);
const { run, state } = site;
const NEWEST = STORED_NAME.replace('25T', '26T');

it('backups lists the catalogue, newest first, in pages', async () => {
  const { code, stdout } = await run(backups, ['--limit', '1']);
  expect(code).toBe(0);
  expect(stdout).toMatch(new RegExp(`^${NEWEST}  taken .*, revision 17, 126 bytes, proven .*, restored in 1.5 s\\n`));
  expect(stdout).toContain(`\nThere are more: --before "${NEWEST}"\n`);
  const second = await run(backups, ['--before', NEWEST, '--json']);
  expect(JSON.parse(second.stdout)).toMatchObject({ ok: true, backups: [{ name: STORED_NAME }], next: null });
  expect(await run(backups, ['--limit', '1000'])).toMatchObject({ code: 0 });
  for (const limit of ['x', '0', '1001', '9999999999999999']) {
    const refused = await run(backups, ['--limit', limit]);
    expect(refused).toMatchObject({ code: 64, stderr: expect.stringContaining('a whole number from 1 to 1000.') });
  }
});

describe('backup --now and drill --from', () => {
  it('wait for the end of the run, and print it', async () => {
    const taking = run(backup, ['--now']);
    await Promise.race([taking, stored.nextRun()]);
    stored.endRun({ name: NEWEST });
    const { code, stdout } = await taking;
    expect({ code, stdout }).toMatchObject({ code: 0, stdout: expect.stringContaining('proven, restored in 1.5 s\n') });
    expect(stdout).toContain(`backup   "${NEWEST}"\n`);
    const drilling = run(drill, ['--from', STORED_NAME, '--json']);
    await Promise.race([drilling, stored.nextRun()]);
    stored.endRun();
    const done = await drilling;
    expect(JSON.parse(done.stdout)).toMatchObject({ ok: true, run: { kind: 'drill', name: STORED_NAME } });
  });

  it('begin as soon as the node has ended another run', async () => {
    await site.server.request('POST', '/v1/admin/backups', { headers: asAdmin });
    let refused = (): void => undefined;
    const isRefused = new Promise<void>((resolve) => {
      refused = resolve;
    });
    site.proxy.intercept((_asked, answer) => {
      answer.on('finish', refused);
      return false;
    });
    const taking = run(backup, ['--now']);
    await Promise.race([taking, isRefused]);
    stored.endRun();
    await Promise.race([taking, stored.nextRun()]);
    stored.endRun({ name: NEWEST });
    expect(await taking).toMatchObject({ code: 0, stdout: expect.stringContaining(NEWEST) });
  });

  it('exit with 1 after a failed run, with its code and what to do', async () => {
    for (const args of [['--now'], ['--now', '--json']]) {
      const taking = run(backup, args);
      await Promise.race([taking, stored.nextRun()]);
      stored.endRun({
        outcome: 'failed',
        code: 'store_full',
        detail: 'Make space.',
        retry_at: '2026-11-25T22:58:28Z',
        name: null,
        restore_seconds: null,
      });
      const { code, stdout } = await taking;
      expect(code).toBe(1);
      if (args.length === 1)
        expect(stdout).toMatch(
          /^backup failed: store_full\noutcome +failed\n(.*\n)*.*Make space\.\nretry +a node tries it again at 2026-11-25T22:58:28Z\n$/,
        );
      else expect(JSON.parse(stdout)).toMatchObject({ ok: false, code: 'store_full', detail: 'Make space.', run: {} });
    }
    const absent = await run(drill, ['--from', 'absent']);
    expect(absent).toMatchObject({ code: 1, stderr: expect.stringContaining('stored_backup_not_found') });
  });

  it('drill exits with 2 if the node could not decrypt the backup', async () => {
    for (const args of [[], ['--json']]) {
      const drilling = run(drill, ['--from', STORED_NAME, ...args]);
      await Promise.race([drilling, stored.nextRun()]);
      stored.endRun({ outcome: 'verified', restore_seconds: null });
      const { code, stdout } = await drilling;
      expect(code).toBe(2);
      if (args.length === 0) expect(stdout).toMatch(/^drill incomplete: not_proven\n.*LOOM_BACKUP_IDENTITY_FILE/);
      else expect(JSON.parse(stdout)).toMatchObject({ ok: false, code: 'not_proven', run: { outcome: 'verified' } });
    }
  });

  it.each([
    ['backup with a file as well', backup, ['--now', '--out', 'x']],
    ['backup without either', backup, []],
    ['drill with a file as well', drill, ['--from', 'a', '--file', 'b']],
    ['restore with a file as well', restore, ['x', '--from', 'a', '--yes']],
    ['restore without either', restore, ['--yes']],
    ['restore with a key for the node', restore, ['--from', 'a', '--yes', '--identity', 'x']],
    ['drill with a key and without a file', drill, ['--identity', 'x']],
  ] as const)('are refused: %s', async (_what, command, args) => {
    expect(await run(command, [...args])).toMatchObject({ code: 64 });
  });
});

it('restore --from shows the plan of the node, asks, and restores the stored backup', async () => {
  const text = (await site.server.request('GET', '/v1/admin/persistence/backup', { headers: asAdmin })).text;
  const before = await state();
  stored.openPlain = async () => Readable.from([Buffer.from(text)]);
  await site.server.request('PUT', '/v1/state', { body: '{"a":2}' });
  const plan = await run(restore, ['--from', STORED_NAME, '--dry-run', '--json']);
  expect(JSON.parse(plan.stdout).report).toMatchObject({ dry_run: true, stored_backup: STORED_NAME });
  const questions: string[] = [];
  const answers = async (question: string): Promise<string> => {
    questions.push(question);
    return 'restore';
  };
  const done = await run(restore, ['--from', STORED_NAME], { answers });
  expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining(`stored as "${STORED_NAME}"\n`) });
  expect(done.stdout).toContain('\nRestored.\n');
  expect(questions[0]).toContain('Restore the backup of "default", taken ');
  expect(await state()).toEqual(before);
});

it('restore and drill decrypt an encrypted file, packed or not', async () => {
  const text = (await site.server.request('GET', '/v1/admin/persistence/backup', { headers: asAdmin })).text;
  const before = await state();
  const key = await createEphemeralKey();
  const identity = join(site.folder, 'key.txt');
  await writeFile(identity, `${key.identity}\n`);
  for (const content of [Buffer.from(text), gzipSync(text)]) {
    await writeFile(site.file, await encryptStream(Readable.from([content]), [key.recipient]));
    await site.server.request('PUT', '/v1/state', { body: '{"a":2}' });
    const done = await run(restore, [site.file, '--yes', '--identity', identity]);
    expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining('\nRestored.\n') });
    expect(await state()).toEqual(before);
  }
  const env = { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: site.proxy.url, LOOM_BACKUP_IDENTITY_FILE: identity };
  expect(await run(drill, ['--file', site.file], { env })).toMatchObject({ code: 0 });
  const without = await run(restore, [site.file, '--dry-run', '--json']);
  expect(JSON.parse(without.stdout)).toMatchObject({
    code: 'identity_missing',
    detail: expect.stringContaining('--identity'),
  });
});

it('status shows the store, the last proof and why the last run failed', async () => {
  const { observation } = stored;
  const failed = { ...(await stored.listRuns({ limit: 1 }))[0], code: 'store_refused', detail: 'Correct the policy.' };
  stored.observation = {
    ...observation,
    storeIsUp: false,
    storeFault: { code: 'store_refused', detail: 'Correct the policy.', since: '2026-11-25T22:57:28Z' },
    lastFailure: failed as typeof observation.lastFailure,
    faultyBackups: 2,
  };
  const { code, stdout } = await run(status, []);
  stored.observation = observation;
  expect(code).toBe(0);
  expect(stdout).toContain('file:///var/lib/loom/backups: NOT up: store_refused: Correct the policy.\n');
  expect(stdout).toMatch(
    /newest proven backup: 2026-11-25T22:57:28.451Z, [^\n]*\n.*the last proof restored a backup in 1\.5 s\n/,
  );
  expect(stdout).toContain(' 2 backups with a FAULT: see the command backups\n');
  expect(stdout).toMatch(/last drill FAILED at .*: store_refused: Correct the policy\.\n/);
});
