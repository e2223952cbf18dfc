import { readdirSync } from 'node:fs';
import { mkdtemp, readdir, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { backup } from '../../src/cli/backup.ts';
import type { Command } from '../../src/cli/command.ts';
import { restore } from '../../src/cli/restore.ts';
import { status } from '../../src/cli/status.ts';
import { undo } from '../../src/cli/undo.ts';
import { ADMIN_TOKEN, createTestServer, type TestServer } from '../http/fixture.ts';
import { type CommandOptions, type CommandRun, runCommand } from '../setup/command.ts';
import { type HttpProxy, startHttpProxy } from '../setup/http-proxy.ts';

const RESTORE = '/v1/admin/persistence/restore';
let server: TestServer;
let proxy: HttpProxy;
let folder: string;
let file: string;

beforeAll(async () => {
  server = await createTestServer();
  proxy = await startHttpProxy((await server.listen()).url);
});
afterAll(async () => {
  await proxy.close();
  await server.close({ timeoutMs: 1_000 });
});
beforeEach(async () => {
  proxy.intercept(undefined);
  proxy.asked.length = 0;
  expect((await server.request('PUT', '/v1/state', { body: '{"a":1,"b":{"c":[2]},"\\u202egpj":3}' })).status).toBe(200);
  folder = await mkdtemp(join(tmpdir(), 'loom-commands-'));
  file = join(folder, 'backup.json');
  return () => rm(folder, { recursive: true, force: true });
});

async function run(command: Command, args: string[], options: CommandOptions = {}): Promise<CommandRun> {
  const env = { LOOM_ADMIN_TOKEN: `${ADMIN_TOKEN},another-token-for-a-rotation`, LOOM_URL: proxy.url };
  const done = await runCommand(command, args, { env, ...options });
  expect(`${done.stdout}${done.stderr}`).not.toContain(ADMIN_TOKEN);
  return done;
}

async function state(): Promise<unknown> {
  return (await server.request('GET', '/v1/state')).json();
}

async function revision(): Promise<number> {
  return (await server.request('GET', '/v1/documents')).json().revision;
}

describe('backup', () => {
  it('keeps a verified backup, says what it is, and is quiet in a pipe', async () => {
    const { code, stdout, stderr } = await run(backup, ['--out', file]);
    expect([code, stderr]).toEqual([0, '']);
    const whole = JSON.parse(await readFile(file, 'utf8'));
    expect(whole.state).toEqual(await state());
    expect(stdout).toContain(`${whole.manifest.documents} documents`);
    expect(stdout).toContain(whole.manifest.sha256);
    expect(await readdir(folder)).toEqual(['backup.json']);
  });

  it('keeps it packed, without its trail, or with the end of it', async () => {
    expect((await run(backup, ['--out', file, '--gzip', '--no-audit'])).code).toBe(0);
    const bare = JSON.parse(gunzipSync(await readFile(file)).toString());
    expect('audit_entries' in bare).toBe(false);
    expect((await run(backup, ['--out', file, '--audit-limit', '1'])).code).toBe(0);
    expect(JSON.parse(await readFile(file, 'utf8')).audit_entries).toHaveLength(1);
  });

  it('is packed as it was asked for, also when a proxy packs or unpacks on the way', async () => {
    const text = (
      await server.request('GET', '/v1/admin/persistence/backup', { headers: { 'x-loom-admin-token': ADMIN_TOKEN } })
    ).text;
    for (const args of [['--gzip'], []]) {
      proxy.intercept((_asked, answer) => {
        const isPacked = args.length === 0;
        const encoding = isPacked ? { 'content-encoding': 'gzip' } : {};
        answer.writeHead(200, { 'content-type': 'application/json', ...encoding });
        answer.end(isPacked ? gzipSync(text) : text);
        return true;
      });
      expect((await run(backup, ['--out', file, ...args])).code).toBe(0);
      const bytes = await readFile(file);
      expect((args.length === 0 ? bytes : gunzipSync(bytes)).toString()).toBe(text);
    }
  });

  it('shows its progress on a terminal, and takes it away again', async () => {
    const { stderr } = await run(backup, ['--out', file], { isWatched: true });
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
    await run(backup, ['--out', file]);
    const good = await readFile(file);
    const [status, type, body] = spoil(good.toString());
    expect(body).not.toBe(good.toString());
    proxy.intercept((_asked, answer) => {
      answer.writeHead(status, { 'content-type': type }).end(body);
      return true;
    });
    const failed = await run(backup, ['--out', file]);
    expect(failed).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining(`backup failed: ${code}`) });
    expect(await readFile(file)).toEqual(good);
    expect(await readdir(folder)).toEqual(['backup.json']);
  });

  it('a connection that is cut, and a stop, leave nothing behind', async () => {
    const controller = new AbortController();
    const half = (end: (destroy: () => void) => void): void =>
      proxy.intercept((_asked, answer) => {
        answer.writeHead(200, { 'content-type': 'application/json' });
        answer.write('{"loom_backup_version":1,', () => end(() => answer.destroy()));
        return true;
      });
    half((destroy) => destroy());
    const cut = await run(backup, ['--out', file]);
    expect(cut).toMatchObject({ code: 1, stderr: expect.stringContaining('connection_cut') });
    expect(await readdir(folder)).toEqual([]);
    const seen: string[][] = [];
    half(() => {
      seen.push(readdirSync(folder));
      controller.abort();
    });
    const stopped = await run(backup, ['--out', file], { stop: controller.signal });
    expect(stopped).toMatchObject({ code: 1, stderr: expect.stringContaining('interrupted') });
    expect(seen).toEqual([['backup.json.part']]);
    expect(await readdir(folder)).toEqual([]);
  });

  it('another backup to the same file is under way, or was left behind', async () => {
    const part = `${file}.part`;
    await writeFile(part, 'somebody else’s');
    const refused = await run(backup, ['--out', file]);
    expect(refused).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('another backup to the same file is under way'),
    });
    expect(await readFile(part, 'utf8')).toBe('somebody else’s');
    const old = new Date(Date.now() - 121_000);
    await utimes(part, old, old);
    expect((await run(backup, ['--out', file])).code).toBe(0);
    expect(await readdir(folder)).toEqual(['backup.json']);
  });

  it('a wrong token is refused with its code, and no file is made', async () => {
    const env = { LOOM_ADMIN_TOKEN: 'a-token-that-nobody-knows', LOOM_URL: proxy.url };
    expect(await run(backup, ['--out', file], { env })).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('forbidden (request'),
    });
    expect(await readdir(folder)).toEqual([]);
  });

  it('of a node whose trail was tampered with says what to do, and takes the documents all the same', async () => {
    const edit = (actor: string) =>
      server.pool.query(`begin; set local session_replication_role = replica;
        update loom_audit set entry = entry || '{"actor":"${actor}"}' where seq = 1; commit`);
    await edit('x');
    const refused = await run(backup, ['--out', file]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('--no-audit') });
    expect(refused.stderr).toContain('backup failed: backup_chain_broken (audit entry 1');
    expect((await run(backup, ['--out', file, '--no-audit'])).code).toBe(0);
    await edit('client');
  });

  it('what is no file is not replaced', async () => {
    expect(await run(backup, ['--out', folder])).toMatchObject({
      code: 64,
      stderr: expect.stringContaining('is not a file'),
    });
    expect(await run(backup, ['--out', '/dev/null'])).toMatchObject({ code: 64 });
  });
});

describe('restore and undo', () => {
  beforeEach(async () => {
    expect((await run(backup, ['--out', file])).code).toBe(0);
    await server.request('PATCH', '/v1/state', {
      headers: { 'content-type': 'application/merge-patch+json' },
      body: '{"a":9,"b":null,"new":1}',
    });
  });

  it('shows the plan, asks, does it, and says how to undo it; undo likewise', async () => {
    const changed = await state();
    const done = await run(restore, [file], { answers: ['restore'] });
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

  it('another answer, an empty one and a dry run change nothing', async () => {
    const before = await revision();
    for (const answer of ['y', 'undo', '', 'RESTORE']) {
      const no = await run(restore, [file], { answers: [answer] });
      expect(no).toMatchObject({ code: 1, stderr: 'Nothing was changed.\n' });
    }
    const plan = await run(restore, [file, '--dry-run']);
    expect(plan).toMatchObject({ code: 0, stdout: expect.stringContaining('1 added') });
    expect(plan.stdout).not.toContain('Restored');
    expect(await revision()).toBe(before);
  });

  it('without a terminal and without --yes nothing is even asked of the node', async () => {
    proxy.asked.length = 0;
    expect(await run(restore, [file])).toMatchObject({ code: 64, stderr: expect.stringContaining('--yes') });
    expect(await run(undo, [])).toMatchObject({ code: 64, stderr: expect.stringContaining('--yes') });
    expect(proxy.asked).toEqual([]);
  });

  it('a state that moves between plan and answer is planned and asked about again', async () => {
    const questions: string[] = [];
    const answers = async (question: string): Promise<string> => {
      questions.push(question);
      if (questions.length === 1) await server.request('PUT', '/v1/documents/late', { body: '1' });
      return 'restore';
    };
    const done = await run(restore, [file], { answers });
    expect(done).toMatchObject({ code: 0, stderr: expect.stringContaining('the state has changed since that plan') });
    expect(questions).toHaveLength(2);
    expect(done.stdout).toContain('- "late"');
    expect(await state()).not.toHaveProperty('late');
  });

  it('--expect-revision is the guard of a script, and a mismatch ends it', async () => {
    const now = await revision();
    const refused = await run(restore, [file, '--yes', '--expect-revision', String(now - 1)]);
    expect(refused).toMatchObject({ code: 1, stderr: expect.stringContaining('revision_mismatch') });
    expect(await revision()).toBe(now);
    expect((await run(restore, [file, '--yes', '--expect-revision', String(now)])).code).toBe(0);
  });

  it('a packed file is sent packed, and a spoiled one is refused with code and place', async () => {
    const packed = join(folder, 'backup.json.gz');
    const text = await readFile(file, 'utf8');
    await writeFile(packed, gzipSync(text));
    const encodings: unknown[] = [];
    proxy.intercept((asked) => {
      if (asked.url === RESTORE) encodings.push(asked.headers['content-encoding']);
      return false;
    });
    expect((await run(restore, [packed, '--yes'])).code).toBe(0);
    expect(encodings).toEqual(['gzip', 'gzip']);
    await writeFile(file, text.replace('{"c": [2]}', '{"c": [3]}'));
    const before = await revision();
    const refused = await run(restore, [file, '--yes']);
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/^restore failed: backup_digest_mismatch \(document "b", at \/state\/b\)\n/);
    // What stands behind a backup would be read as members of the request around it.
    await writeFile(file, `${text},"accept_state_key":"elsewhere"`);
    expect((await run(restore, [file, '--yes'])).stderr).toMatch(/^restore failed: invalid_json \(byte \d+/);
    expect(await revision()).toBe(before);
  });

  it('--keep-state leaves the documents alone; --into-scratch leaves everything alone', async () => {
    const before = await state();
    expect((await run(restore, [file, '--yes', '--keep-state'])).stdout).toContain('left alone');
    expect(await state()).toEqual(before);
    const revisionBefore = await revision();
    const beside = await run(restore, [file, '--yes', '--into-scratch', 'beside']);
    expect(beside).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('DELETE /v1/admin/persistence/scratch/beside'),
    });
    expect(await revision()).toBe(revisionBefore);
    expect((await run(status, [])).stdout).toMatch(/scratch states +"beside" of /);
    const again = await run(restore, [file, '--yes', '--into-scratch', 'beside']);
    expect(again).toMatchObject({ code: 1, stderr: expect.stringContaining('scratch_exists') });
  });

  it('a stop in the middle of a restore changes nothing', async () => {
    const controller = new AbortController();
    const before = await revision();
    let requests = 0;
    proxy.intercept((asked, answer) => {
      if (asked.url !== RESTORE) return false;
      requests += 1;
      if (requests < 2) return false;
      asked.resume();
      controller.abort();
      answer.on('close', () => undefined);
      return true;
    });
    const stopped = await run(restore, [file, '--yes'], { stop: controller.signal });
    expect(stopped).toMatchObject({ code: 1, stderr: expect.stringContaining('interrupted') });
    expect(await revision()).toBe(before);
  });

  it('a file that is not there is an error before anything is sent', async () => {
    proxy.asked.length = 0;
    const missing = await run(restore, [join(folder, 'nothing'), '--yes']);
    expect(missing).toMatchObject({ code: 1, stderr: expect.stringContaining('ENOENT') });
    expect(proxy.asked).toEqual([]);
  });
});

describe('status', () => {
  it('sums up for a human, and hands over the answer with --json', async () => {
    const { code, stdout } = await run(status, []);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^ready +yes\n/);
    expect(stdout).toMatch(/state +"default" at revision \d+, epoch /);
    expect(stdout).toMatch(/can be undone +(restore|undo) [0-9a-f-]{36} of /);
    const json = JSON.parse((await run(status, ['--json'])).stdout);
    expect(json).toMatchObject({ state_key: 'default', undo: { kept_most: 3 } });
  });

  it('a node that is not ready is exit code 1', async () => {
    server.setReadiness({ ok: false, checks: { http: 'draining', database: 'ok', schema: 'ok' }, reason: 'draining' });
    const { code, stdout } = await run(status, []);
    server.setReadiness({ ok: true, checks: { http: 'ok', database: 'ok', schema: 'ok' } });
    expect([code, stdout.split('\n')[0]]).toEqual([1, expect.stringMatching(/^ready +NO: draining$/)]);
  });
});
