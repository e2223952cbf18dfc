import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { beforeEach, describe, expect, it } from 'vitest';
import { backup } from '../../../src/cli/backup.ts';
import { restore } from '../../../src/cli/restore.ts';
import { status } from '../../../src/cli/status.ts';
import { undo } from '../../../src/cli/undo.ts';
import { useClientSite } from '../../setup/cli/client-site.ts';
import { ADMIN_TOKEN, createTestServer } from '../../setup/node/http.ts';
import { runCommandLine } from '../../setup/node/program.ts';

const RESTORE = '/v1/admin/persistence/restore';
const site = useClientSite();
const { run, state, revision } = site;

describe('restore and undo', () => {
  beforeEach(async () => {
    expect((await run(backup, ['--out', site.file])).code).toBe(0);
    await site.server.request('PATCH', '/v1/state', {
      headers: { 'content-type': 'application/merge-patch+json' },
      body: '{"a":9,"b":null,"new":1}',
    });
  });

  it('show the plan, ask, act, and say how to reverse it', async () => {
    const changed = await state();
    const done = await run(restore, [site.file], { answers: ['restore'] });
    expect(done.code).toBe(0);
    expect(done.stdout).toMatch(
      /^Plan: .*\ndocuments +1 added, 1 changed, 1 removed, 1 unchanged\n +\+ "b"\n +~ "a"\n +- "new"\n/,
    );
    expect(done.stdout).toContain('\nRestored.\n');
    expect(done.stdout).not.toContain('\u202e');
    expect(await state()).toMatchObject({ a: 1, b: { c: [2] } });
    const command = /node dist\/main\.js (undo .*)\n/.exec(done.stdout)?.[1]?.split(' ') ?? [];
    const undone = await run(undo, command.slice(1), { answers: ['undo'] });
    expect(undone).toMatchObject({ code: 0, stdout: expect.stringContaining('\nUndone.') });
    expect(await state()).toEqual(changed);
    expect((await run(undo, ['--yes'])).code).toBe(0);
    expect(await state()).toMatchObject({ a: 1, b: { c: [2] } });
  });

  it('restore only the documents that --document selects', async () => {
    const questions: string[] = [];
    const answers = async (question: string): Promise<string> => {
      questions.push(question);
      return 'restore';
    };
    const done = await run(restore, [site.file, '--document', 'a', '--document', 'ne*'], { answers });
    expect(done).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('selected     "a"\n             "ne*"\n'),
    });
    expect(done.stdout).toMatch(/\ndocuments +0 added, 1 changed, 1 removed, 1 unchanged\n/);
    expect(questions[0]).toContain('Restore only "a" and 1 more out of the backup');
    expect(await state()).toMatchObject({ a: 1 });
    expect(await state()).not.toHaveProperty('b');
    const misspelled = await run(restore, [site.file, '--yes', '--document', 'A']);
    expect(misspelled).toMatchObject({ code: 1, stderr: expect.stringContaining('document_not_found') });
  });

  it('another answer, an empty one and a dry run change nothing', async () => {
    const before = await revision();
    for (const answer of ['y', 'undo', '', 'RESTORE']) {
      const no = await run(restore, [site.file], { answers: [answer] });
      expect(no).toMatchObject({ code: 1, stderr: 'Nothing was changed.\n' });
    }
    const plan = await run(restore, [site.file, '--dry-run']);
    expect(plan).toMatchObject({ code: 0, stdout: expect.stringContaining('1 added') });
    expect(plan.stdout).not.toContain('Restored');
    expect(await revision()).toBe(before);
  });

  it('send no request without a terminal and without --yes', async () => {
    site.proxy.asked.length = 0;
    expect(await run(restore, [site.file])).toMatchObject({ code: 64, stderr: expect.stringContaining('--yes') });
    expect(await run(undo, [])).toMatchObject({ code: 64, stderr: expect.stringContaining('--yes') });
    expect(site.proxy.asked).toEqual([]);
  });

  it('if the state changes between plan and answer, the command shows a new plan and asks again', async () => {
    const questions: string[] = [];
    const answers = async (question: string): Promise<string> => {
      questions.push(question);
      if (questions.length === 1) await site.server.request('PUT', '/v1/documents/late', { body: '1' });
      return 'restore';
    };
    const done = await run(restore, [site.file], { answers });
    expect(done).toMatchObject({ code: 0, stderr: expect.stringContaining('the state has changed since that plan') });
    expect(questions).toHaveLength(2);
    expect(done.stdout).toContain('- "late"');
    expect(await state()).not.toHaveProperty('late');
  });

  it('--expect-revision guards a script, and a mismatch ends the restore', async () => {
    const now = await revision();
    const refused = await run(restore, [site.file, '--yes', '--expect-revision', String(now - 1)]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('revision_mismatch') });
    expect(await revision()).toBe(now);
    expect((await run(restore, [site.file, '--yes', '--expect-revision', String(now)])).code).toBe(0);
  });

  it('--actor names the user in the audit entry, and must be printable', async () => {
    expect((await run(restore, [site.file, '--yes', '--actor', 'Zoë 🧵'])).code).toBe(0);
    const { entries } = (await site.server.request('GET', '/v1/audit?action=restore&order=desc&limit=1')).json();
    expect(entries).toMatchObject([{ actor: 'admin', actor_name: 'Zoë 🧵' }]);
    for (const name of ['', ' ', 'a\tb', 'a\u202eb', 'x'.repeat(129)]) {
      const refused = await run(restore, [site.file, '--yes', '--actor', name]);
      expect(refused).toMatchObject({ code: 64, stderr: expect.stringContaining('--actor must have 1 to 128') });
    }
  });

  it('a gzip file is sent as gzip, and a spoiled one is refused with code and place', async () => {
    const packed = join(site.folder, 'backup.json.gz');
    const text = await readFile(site.file, 'utf8');
    await writeFile(packed, gzipSync(text));
    const encodings: unknown[] = [];
    site.proxy.intercept((asked) => {
      if (asked.url === RESTORE) encodings.push(asked.headers['content-encoding']);
      return false;
    });
    expect((await run(restore, [packed, '--yes'])).code).toBe(0);
    expect(encodings).toEqual(['gzip', 'gzip']);
    await writeFile(site.file, text.replace('{"c": [2]}', '{"c": [3]}'));
    const before = await revision();
    const refused = await run(restore, [site.file, '--yes']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/^restore failed: backup_digest_mismatch \(document "b", at \/state\/b\)\n/);
    // The node would read text after a backup as members of the request.
    await writeFile(site.file, `${text},"accept_state_key":"elsewhere"`);
    expect((await run(restore, [site.file, '--yes'])).stderr).toMatch(/^restore failed: invalid_json \(byte \d+/);
    expect(await revision()).toBe(before);
  });

  it('--keep-state leaves the documents alone; --into-scratch leaves everything alone', async () => {
    const before = await state();
    expect((await run(restore, [site.file, '--yes', '--keep-state'])).stdout).toContain('left alone');
    expect(await state()).toEqual(before);
    const revisionBefore = await revision();
    const name = "be side's";
    const beside = await run(restore, [site.file, '--yes', '--into-scratch', name]);
    expect(beside.code).toBe(0);
    expect(beside.stdout).toMatch(
      /scratch state +"be side's", a new one\n[\s\S]*\nscratch state +"be side's", digest [0-9a-f]{64}\n/,
    );
    expect(await revision()).toBe(revisionBefore);
    expect((await run(status, [])).stdout).toMatch(/scratch states +"be side's" of /);
    const again = await run(restore, [site.file, '--yes', '--into-scratch', name]);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('scratch_exists') });
    const drop = /^curl .*$/m.exec(beside.stdout)?.[0] ?? '';
    const dropped = await runCommandLine(drop, { directory: site.folder, env: { LOOM_ADMIN_TOKEN: ADMIN_TOKEN } });
    expect(dropped).toMatchObject({ code: 0, stdout: expect.stringContaining('"dropped":true') });
    expect((await run(status, [])).stdout).toMatch(/scratch states +none\n/);
  });

  it('a stop during a restore changes nothing', async () => {
    const controller = new AbortController();
    const before = await revision();
    let requests = 0;
    site.proxy.intercept((asked, answer) => {
      if (asked.url !== RESTORE) return false;
      requests += 1;
      if (requests < 2) return false;
      asked.resume();
      controller.abort();
      answer.on('close', () => undefined);
      return true;
    });
    const stopped = await run(restore, [site.file, '--yes'], { stop: controller.signal });
    expect(stopped).toMatchObject({ code: 1, stderr: expect.stringContaining('interrupted') });
    expect(await revision()).toBe(before);
  });

  it('after a cut answer, the error says that the restore may have happened, and how to find out', async () => {
    let requests = 0;
    site.proxy.intercept((asked, answer) => {
      if (asked.url !== RESTORE) return false;
      requests += 1;
      if (requests < 2) return false;
      answer.destroy();
      return true;
    });
    const cut = await run(restore, [site.file, '--yes']);
    expect(cut).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('may or may not have carried it out: see "last restore"'),
    });
  });

  it('a missing file is an error before any request', async () => {
    site.proxy.asked.length = 0;
    const missing = join(site.folder, 'nothing');
    expect(await run(restore, [missing, '--yes'])).toEqual({
      code: 1,
      stdout: '',
      stderr: `restore failed: ${missing}: There is no such file or folder.\n`,
    });
    const notThere = await run(backup, ['--out', join(missing, 'x.json')]);
    expect(notThere.stderr).toBe(`backup failed: ${missing}/x.json.part: There is no such file or folder.\n`);
    expect(site.proxy.asked).toEqual([]);
  });

  it('a restore request is refused as a backup', async () => {
    await writeFile(site.file, `{"confirm":"restore","backup":${await readFile(site.file, 'utf8')}}`);
    site.proxy.asked.length = 0;
    const { code, stderr } = await run(restore, [site.file, '--yes']);
    expect([code, stderr]).toEqual([1, expect.stringContaining('its member "backup" contains the backup')]);
    expect(stderr).toMatch(/^restore failed: backup_malformed \(byte \d+, at \/backup\)\n/);
    expect(site.proxy.asked).toEqual([]);
  });

  it('if an option allows a refused restore, the error names the option', async () => {
    const { manifest: _manifest, document_sha256: _digests, ...bare } = JSON.parse(await readFile(site.file, 'utf8'));
    await writeFile(site.file, JSON.stringify({ ...bare, state_key: 'elsewhere' }));
    const unverified = await run(restore, [site.file, '--yes']);
    expect(unverified.stderr).toMatch(/^restore failed: backup_unverified \([\s\S]*: --accept-unverified\.\n$/);
    const elsewhere = await run(restore, [site.file, '--yes', '--accept-unverified']);
    expect(elsewhere.stderr).toMatch(/^restore failed: state_key_mismatch \([\s\S]*: --accept-state-key KEY\.\n$/);
    const args = ['--yes', '--accept-unverified', '--accept-state-key', 'elsewhere'];
    expect((await run(restore, [site.file, ...args])).code).toBe(0);
  });

  it('the progress of a dry run does not say that the node applies the backup', async () => {
    const plan = await run(restore, [site.file, '--dry-run'], { isWatched: true });
    expect(plan.stderr).toContain('the node checks and plans');
    expect(plan.stderr).not.toContain('applies');
    const done = await run(restore, [site.file, '--yes'], { isWatched: true });
    expect(done.stderr).toContain('the node checks and applies');
  });
});

describe('status', () => {
  it('writes a summary as text, and the answer of the node with --json', async () => {
    const { code, stdout } = await run(status, []);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ready +yes\n/);
    expect(stdout).toMatch(/state +"default" at revision \d+, epoch /);
    expect(stdout).toMatch(/can be undone +(restore|undo) [0-9a-f-]{36} of /);
    const json = JSON.parse((await run(status, ['--json'])).stdout);
    expect(json).toMatchObject({ state_key: 'default', undo: { kept_most: 3 } });
  });

  it('shows what the last check of the audit trail covered', async () => {
    const { entries } = (await site.server.request('GET', '/v1/audit?limit=1&order=desc')).json();
    const last = entries[0].seq;
    await run(backup, ['--out', site.file, '--audit-limit', '2']);
    const audit = async (): Promise<string | undefined> => /^audit .*$/m.exec((await run(status, [])).stdout)?.[0];
    expect(await audit()).toMatch(
      new RegExp(`^audit +${last} entries; found valid at \\S+Z \\(entries ${last - 1} to ${last}, by a backup\\)$`),
    );
    await site.server.request('GET', '/v1/audit/verify', { headers: { 'x-loom-admin-token': ADMIN_TOKEN } });
    expect(await audit()).toContain(`(entries 1 to ${last}, by a verification)`);
  });

  it('shows at which entry the audit chain is broken', async () => {
    const other = await createTestServer();
    const { url } = await other.listen();
    for (const name of ['a', 'b', 'c']) await other.request('PUT', `/v1/documents/${name}`, { body: '1' });
    await other.pool.query(`begin; set local session_replication_role = replica;
      update loom_audit set entry = entry || '{"actor":"x"}' where seq = 2; commit`);
    const env = { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: url };
    await other.request('GET', '/v1/audit/verify', { headers: { 'x-loom-admin-token': ADMIN_TOKEN } });
    const { code, stdout } = await run(status, [], { env });
    await other.close({ timeoutMs: 1_000 });
    expect(stdout).toMatch(
      /^audit +3 entries; FOUND BROKEN at \S+Z at entry 2 \(entries 1 to 3, by a verification\)$/m,
    );
    expect(code).toBe(0);
  });

  it('without the database, shows ? for each value that comes from it, and does not fail', async () => {
    const other = await createTestServer();
    const { url } = await other.listen();
    await other.database.drop();
    const env = { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: url };
    const { code, stdout } = await run(status, [], { env });
    await other.close({ timeoutMs: 1_000 });
    for (const label of ['last backup', 'last restore', 'can be undone', 'scratch states']) {
      expect(stdout).toMatch(new RegExp(`^${label} +\\?$`, 'm'));
    }
    expect(stdout).toContain('NOT ok: ');
    // The exit code is about readiness, and no probe changes it in this test.
    expect(code).toBe(0);
  });

  it('exits with 1 if the node is not ready', async () => {
    site.server.setReadiness({
      ok: false,
      checks: { http: 'draining', database: 'ok', schema: 'ok' },
      reason: 'draining',
    });
    const { code, stdout } = await run(status, []);
    site.server.setReadiness({ ok: true, checks: { http: 'ok', database: 'ok', schema: 'ok' } });
    expect([code, stdout.split('\n')[0]]).toEqual([1, expect.stringMatching(/^ready +NO: draining$/)]);
  });
});
