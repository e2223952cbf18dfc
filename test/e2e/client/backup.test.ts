import { readdirSync } from 'node:fs';
import { readdir, readFile, utimes, writeFile } from 'node:fs/promises';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { backup } from '../../../src/cli/backup.ts';
import { restore } from '../../../src/cli/restore.ts';
import { verify } from '../../../src/cli/verify.ts';
import { useClientSite } from '../../setup/cli/client-site.ts';
import { ADMIN_TOKEN } from '../../setup/node/http.ts';

const site = useClientSite();
const { run, state } = site;

describe('backup', () => {
  it('keeps a verified backup, describes it, and shows no progress without a terminal', async () => {
    const { code, stdout, stderr } = await run(backup, ['--out', site.file]);
    expect([code, stderr]).toEqual([0, '']);
    const whole = JSON.parse(await readFile(site.file, 'utf8'));
    expect(whole.state).toEqual(await state());
    expect(stdout).toContain(`${whole.manifest.documents} documents`);
    expect(stdout).toContain(whole.manifest.sha256);
    expect(await readdir(site.folder)).toEqual(['backup.json']);
  });

  it('writes gzip, leaves out the audit trail, or limits it', async () => {
    expect((await run(backup, ['--out', site.file, '--gzip', '--no-audit'])).code).toBe(0);
    const bare = JSON.parse(gunzipSync(await readFile(site.file)).toString());
    expect('audit_entries' in bare).toBe(false);
    expect((await run(backup, ['--out', site.file, '--audit-limit', '1'])).code).toBe(0);
    expect(JSON.parse(await readFile(site.file, 'utf8')).audit_entries).toHaveLength(1);
  });

  it('writes gzip only with --gzip, even if a proxy packs or unpacks the answer', async () => {
    const text = (
      await site.server.request('GET', '/v1/admin/persistence/backup', {
        headers: { 'x-loom-admin-token': ADMIN_TOKEN },
      })
    ).text;
    for (const args of [['--gzip'], []]) {
      site.proxy.intercept((_asked, answer) => {
        const isPacked = args.length === 0;
        const encoding = isPacked ? { 'content-encoding': 'gzip' } : {};
        answer.writeHead(200, { 'content-type': 'application/json', ...encoding });
        answer.end(isPacked ? gzipSync(text) : text);
        return true;
      });
      expect((await run(backup, ['--out', site.file, ...args])).code).toBe(0);
      const bytes = await readFile(site.file);
      expect((args.length === 0 ? bytes : gunzipSync(bytes)).toString()).toBe(text);
    }
  });

  it('shows progress on a terminal and clears it at the end', async () => {
    const { stderr } = await run(backup, ['--out', site.file], { isWatched: true });
    expect(stderr).toContain('backup');
    expect(stderr).toContain('verify');
    expect(stderr.endsWith('\r\u001b[2K')).toBe(true);
  });

  it.each<[string, string, (text: string) => [number, string, string | Buffer]]>([
    ['an error page', 'unexpected_answer', () => [502, 'text/html', '<html>']],
    ['an error page with status 200', 'unexpected_answer', () => [200, 'text/html', '<html>']],
    ['an error page that says it is JSON', 'invalid_json', () => [200, 'application/json', '<html>']],
    ['an answer without a manifest', 'backup_incomplete', (text) => [200, 'application/json', text.slice(0, -9)]],
    [
      'a changed value',
      'backup_digest_mismatch',
      (text) => [200, 'application/json', text.replace('{"c": [2]}', '{"c": [3]}')],
    ],
    ['an empty answer', 'invalid_json', () => [200, 'application/json', '']],
    ['damaged gzip', 'malformed_request', (text) => [200, 'application/json', gzipSync(text).fill(9, 90, 99)]],
  ])('%s never replaces a good file: %s', async (_what, code, spoil) => {
    await run(backup, ['--out', site.file]);
    const good = await readFile(site.file);
    const [status, type, body] = spoil(good.toString());
    expect(body).not.toBe(good.toString());
    site.proxy.intercept((_asked, answer) => {
      answer.writeHead(status, { 'content-type': type }).end(body);
      return true;
    });
    const failed = await run(backup, ['--out', site.file]);
    expect(failed).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining(`backup failed: ${code}`) });
    expect(await readFile(site.file)).toEqual(good);
    expect(await readdir(site.folder)).toEqual(['backup.json']);
  });

  it('a cut connection or a stop leaves no file', async () => {
    const controller = new AbortController();
    const half = (end: (destroy: () => void) => void): void =>
      site.proxy.intercept((_asked, answer) => {
        answer.writeHead(200, { 'content-type': 'application/json' });
        answer.write('{"loom_backup_version":1,', () => end(() => answer.destroy()));
        return true;
      });
    half((destroy) => destroy());
    const cut = await run(backup, ['--out', site.file]);
    expect(cut).toMatchObject({ code: 1, stderr: expect.stringContaining('connection_cut') });
    expect(await readdir(site.folder)).toEqual([]);
    const seen: string[][] = [];
    half(() => {
      seen.push(readdirSync(site.folder));
      controller.abort();
    });
    const stopped = await run(backup, ['--out', site.file], { stop: controller.signal });
    expect(stopped).toMatchObject({ code: 1, stderr: expect.stringContaining('interrupted') });
    expect(seen).toEqual([['backup.json.part']]);
    expect(await readdir(site.folder)).toEqual([]);
  });

  it('a fresh .part of another backup is refused, and an old one is replaced', async () => {
    const part = `${site.file}.part`;
    await writeFile(part, 'another process’s');
    const refused = await run(backup, ['--out', site.file]);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('another backup to the same file is in progress'),
    });
    expect(await readFile(part, 'utf8')).toBe('another process’s');
    const old = new Date(Date.now() - 121_000);
    await utimes(part, old, old);
    expect((await run(backup, ['--out', site.file])).code).toBe(0);
    expect(await readdir(site.folder)).toEqual(['backup.json']);
  });

  it('a wrong token is refused with a code, and no file is created', async () => {
    const env = { LOOM_ADMIN_TOKEN: 'a-token-that-nobody-knows', LOOM_URL: site.proxy.url };
    expect(await run(backup, ['--out', site.file], { env })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('forbidden (request'),
    });
    expect(await readdir(site.folder)).toEqual([]);
  });

  it('says what to do about a tampered audit trail, and backs up the documents with --no-audit', async () => {
    const edit = (actor: string) =>
      site.server.pool.query(`begin; set local session_replication_role = replica;
        update loom_audit set entry = entry || '{"actor":"${actor}"}' where seq = 1; commit`);
    await edit('x');
    const refused = await run(backup, ['--out', site.file]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('--no-audit') });
    expect(refused.stderr).toContain('backup failed: backup_chain_broken (audit entry 1');
    expect((await run(backup, ['--out', site.file, '--no-audit'])).code).toBe(0);
    await edit('client');
  });

  it('refuses a target that is not a file', async () => {
    expect(await run(backup, ['--out', site.folder])).toMatchObject({
      code: 64,
      stderr: expect.stringContaining('is not a file'),
    });
    expect(await run(backup, ['--out', '/dev/null'])).toMatchObject({ code: 64 });
  });
});

describe('documents that were changed without LOOM', () => {
  const first = 'Document "a" differs from what the audit trail says. Entry ';
  const more =
    ' changed it last. The backup has 2 mismatches. Someone changed the database without LOOM. Run verify on the file.';

  /** Leaves the number of bytes as it is: a node refuses the backup of a state whose counts are wrong. */
  const edit = (name: string, value: string) =>
    site.server.pool.query(`update loom_document set value = $2 where state_key = 'default' and name = $1`, [
      name,
      value,
    ]);

  it('are a warning of backup on standard error, and of the plan of a restore', async () => {
    await edit('a', '9');
    await edit('b', '{"c":[3]}');
    const taken = await run(backup, ['--out', site.file]);
    const { seq } = JSON.parse(await readFile(site.file, 'utf8')).manifest.audit_head;
    const warning = `backup warning: document_mismatch (document "a", audit entry ${seq})\n${first}${seq}${more}\n`;
    expect([taken.code, taken.stderr]).toEqual([0, warning]);
    expect(taken.stdout).not.toContain('audit trail says');
    const again = await run(backup, ['--out', site.file, '--json'], { isWatched: true });
    expect(again.stderr.endsWith(`\r\u001b[2K${warning}`)).toBe(true);
    const mismatches = ['a', 'b'].map((document) => ({ document, seq, how: 'edited' }));
    const trail = { mismatches, mismatch_count: 2 };
    expect(JSON.parse(again.stdout)).toMatchObject({ ok: true, trail });

    expect((await run(verify, [site.file])).code).toBe(1);
    const plan = await run(restore, [site.file, '--dry-run']);
    expect([plan.code, plan.stderr]).toEqual([0, '']);
    expect(plan.stdout).toContain(`\nwarning      ${first}${seq}${more}\n`);
    const planned = await run(restore, [site.file, '--dry-run', '--json']);
    expect(JSON.parse(planned.stdout)).toMatchObject({ ok: true, report: { dry_run: true, warnings: [] }, trail });
    const restored = await run(restore, [site.file, '--yes']);
    expect(restored.code).toBe(0);
    // The plan says it, and the report of the restore does not repeat it.
    expect(restored.stdout.split(first)).toHaveLength(2);

    // The restore has recorded them.
    expect(await run(backup, ['--out', site.file])).toMatchObject({ code: 0, stderr: '' });
    const next = await run(restore, [site.file, '--dry-run', '--json']);
    expect(Object.keys(JSON.parse(next.stdout))).toEqual(['ok', 'report']);
  });

  it('are not looked for without the beginning of the audit trail', async () => {
    await edit('a', '9');
    for (const args of [['--no-audit'], ['--audit-limit', '1']]) {
      expect(await run(backup, ['--out', site.file, ...args])).toMatchObject({ code: 0, stderr: '' });
    }
  });
});
