import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeEach, describe, expect, it } from 'vitest';
import { backup } from '../../../src/cli/backup.ts';
import type { Command } from '../../../src/cli/command.ts';
import { drill } from '../../../src/cli/drill.ts';
import { inspect } from '../../../src/cli/inspect.ts';
import { restore } from '../../../src/cli/restore.ts';
import { status } from '../../../src/cli/status.ts';
import { undo } from '../../../src/cli/undo.ts';
import { verify } from '../../../src/cli/verify.ts';
import { useClientSite } from '../../setup/cli/client-site.ts';
import type { CommandOptions } from '../../setup/cli/command.ts';
import { ADMIN_TOKEN } from '../../setup/node/http.ts';

const site = useClientSite();
const { run, state, revision } = site;
const sha256 = expect.stringMatching(/^[0-9a-f]{64}$/);
const head = { seq: expect.any(Number), hash: sha256 };

/** Runs a command with --json, and asserts that standard output is one JSON object and a newline. */
async function runJson(command: Command, args: string[], options?: CommandOptions) {
  const { code, stdout, stderr } = await run(command, [...args, '--json'], options);
  expect(stdout).toMatch(/^\{.*\}\n$/);
  return { code, json: JSON.parse(stdout) as Record<string, unknown>, stderr };
}

/** Returns the expected object of a failure. */
function failure(code: string, members: Record<string, unknown> = {}): Record<string, unknown> {
  return { ok: false, code, detail: expect.stringMatching(/^\S/), place: {}, request_id: null, ...members };
}

function backupMembers(file: string | null): Record<string, unknown> {
  return {
    file,
    state_key: 'default',
    revision: expect.any(Number),
    epoch: expect.any(String),
    exported_at: expect.stringMatching(/Z$/),
    bytes: expect.any(Number),
    documents: 3,
    audit_entries: expect.any(Number),
    state_sha256: sha256,
    audit_head: head,
    manifest_sha256: sha256,
  };
}

beforeEach(async () => {
  expect((await run(backup, ['--out', site.file])).code).toBe(0);
});

describe('backup --json', () => {
  it('describes the backup', async () => {
    const { code, json, stderr } = await runJson(backup, ['--out', site.file, '--gzip'], { isWatched: true });
    expect([code, json]).toEqual([0, { ok: true, backup: backupMembers(site.file), file_bytes: expect.any(Number) }]);
    expect(json.file_bytes).toBe((await readFile(site.file)).length);
    expect(stderr).toContain('verify');
  });

  it('reports a refusal of the node with its request id, and writes no file', async () => {
    const env = { LOOM_ADMIN_TOKEN: 'a-token-that-nobody-knows', LOOM_URL: site.proxy.url };
    const target = join(site.folder, 'other.json');
    const { code, json, stderr } = await runJson(backup, ['--out', target], { env });
    expect([code, json]).toEqual([1, failure('forbidden', { request_id: expect.any(String) })]);
    expect(stderr).toMatch(/^backup failed: forbidden \(request/);
    expect(await readdir(site.folder)).toEqual(['backup.json']);
  });

  it('reports wrong usage, a missing token and an unusable file', async () => {
    expect(await runJson(backup, [])).toMatchObject({ code: 64, json: failure('usage') });
    expect(await runJson(backup, ['--out'])).toMatchObject({ code: 64, json: failure('usage') });
    expect(await runJson(backup, ['--out', site.file], { env: {} })).toMatchObject({
      code: 78,
      json: failure('configuration_invalid'),
    });
    await writeFile(`${site.file}.part`, 'of another process');
    const busy = await runJson(backup, ['--out', site.file]);
    expect([busy.code, busy.json]).toEqual([1, failure('file_unusable', { place: { file: `${site.file}.part` } })]);
    const file = join(site.folder, 'nothing', 'x.json');
    const missing = await runJson(backup, ['--out', file]);
    expect([missing.code, missing.json]).toEqual([1, failure('file_unusable', { place: { file: `${file}.part` } })]);
  });
});

describe('restore --json and undo --json', () => {
  beforeEach(async () => {
    await site.server.request('PUT', '/v1/documents/new', { body: '1' });
  });

  it('write the report of the node, and nothing else with --yes', async () => {
    const changed = await state();
    const restored = await runJson(restore, [site.file, '--yes']);
    expect(restored).toMatchObject({
      code: 0,
      stderr: '',
      json: { ok: true, report: { dry_run: false, verified: true, documents: { removed: 1 }, warnings: [] } },
    });
    expect(Object.keys(restored.json)).toEqual(['ok', 'report']);
    const undone = await runJson(undo, ['--yes']);
    expect(undone).toMatchObject({
      code: 0,
      stderr: '',
      json: { ok: true, report: { dry_run: false, undone: [{ kind: 'restore' }], documents: { added: 1 } } },
    });
    expect(Object.keys(undone.json)).toEqual(['ok', 'report']);
    expect(await state()).toEqual(changed);
  });

  it('write the plan of a dry run', async () => {
    expect((await run(restore, [site.file, '--yes'])).code).toBe(0);
    const before = await revision();
    for (const [command, args] of [
      [restore, [site.file]],
      [undo, []],
    ] as const) {
      const plan = await runJson(command, [...args, '--dry-run']);
      expect(plan).toMatchObject({ code: 0, stderr: '', json: { ok: true, report: { dry_run: true } } });
    }
    expect(await revision()).toBe(before);
  });

  it('show the plan and ask on standard error', async () => {
    const restored = await runJson(restore, [site.file], { answers: ['restore'] });
    expect(restored).toMatchObject({ code: 0, json: { ok: true, report: { dry_run: false } } });
    expect(restored.stderr).toMatch(/^Plan: .*\ndocuments +0 added, 0 changed, 1 removed/);
    const undone = await runJson(undo, [], { answers: ['undo'] });
    expect(undone).toMatchObject({ code: 0, json: { ok: true, report: { dry_run: false } } });
    expect(undone.stderr).toMatch(/^Plan: /);
  });

  it('report that nothing was confirmed, and refuse without a terminal', async () => {
    expect((await run(restore, [site.file, '--yes'])).code).toBe(0);
    const before = await revision();
    for (const [command, args] of [
      [restore, [site.file]],
      [undo, []],
    ] as const) {
      const no = await runJson(command, [...args], { answers: ['no'] });
      expect([no.code, no.json]).toEqual([1, failure('not_confirmed')]);
      expect(no.stderr).toMatch(/^Plan: [\s\S]*\nNothing was changed\.\n$/);
      const alone = await runJson(command, [...args]);
      expect([alone.code, alone.json]).toEqual([64, failure('usage')]);
    }
    expect(await revision()).toBe(before);
  });

  it('report code and place of a failure', async () => {
    const text = await readFile(site.file, 'utf8');
    await writeFile(site.file, text.replace('{"c": [2]}', '{"c": [3]}'));
    const refused = await runJson(restore, [site.file, '--yes']);
    const place = { document: 'b', pointer: '/state/b' };
    expect([refused.code, refused.json]).toEqual([1, failure('backup_digest_mismatch', { place })]);
    const unknown = await runJson(undo, ['--yes', '--event-id', '00000000-0000-4000-8000-000000000000']);
    expect([unknown.code, unknown.json]).toEqual([
      1,
      failure('nothing_to_undo', { place: { pointer: '/event_id' }, request_id: expect.any(String) }),
    ]);
  });
});

describe('status --json', () => {
  it('writes the answer of the node, ready or not', async () => {
    const headers = { 'x-loom-admin-token': ADMIN_TOKEN };
    const answer = (await site.server.request('GET', '/v1/admin/status', { headers })).json();
    const { code, json } = await runJson(status, []);
    expect(code).toBe(0);
    expect(Object.keys(json)).toEqual(Object.keys(answer));
    expect(json).toMatchObject({ ready: { ok: true }, state_key: 'default', state: answer.state });
    const checks = { http: 'draining', database: 'ok', schema: 'ok' } as const;
    site.server.setReadiness({ ok: false, checks, reason: 'draining' });
    const draining = await runJson(status, []);
    site.server.setReadiness({ ok: true, checks: { ...checks, http: 'ok' } });
    expect(draining).toMatchObject({ code: 1, json: { ready: { ok: false, reason: 'draining' } } });
  });

  it('reports a node that does not answer', async () => {
    const { code, json } = await runJson(status, ['--url', 'http://127.0.0.1:1']);
    expect([code, json]).toEqual([1, failure('unreachable')]);
  });
});

describe('verify --json', () => {
  it('describes the backup, and how it continues an earlier one', async () => {
    const trail = {
      told_from_seq: expect.any(Number),
      untold_documents: expect.any(Number),
      unchecked_merges: 0,
      mismatches: [],
      mismatch_count: 0,
    };
    const verified = {
      ok: true,
      backup: backupMembers(site.file),
      stored: null,
      audit_checked_from: 1,
      against: null,
      trail,
    };
    const { code, json, stderr } = await runJson(verify, [site.file]);
    expect([code, stderr, json]).toEqual([0, '', verified]);
    const against = {
      file: site.file,
      outcome: 'continued',
      audit_head: head,
      from: null,
      imported: 0,
      restore: null,
    };
    const continued = await runJson(verify, [site.file, '--against', site.file]);
    expect([continued.code, continued.json]).toEqual([0, { ...verified, against }]);
  });

  it('reports the fault, its place and the file', async () => {
    const text = await readFile(site.file, 'utf8');
    const bad = join(site.folder, 'bad.json');
    await writeFile(bad, text.slice(0, 40));
    const expected = failure('backup_incomplete', { place: { file: bad, offset: expect.any(Number) } });
    const { code, json, stderr } = await runJson(verify, [bad]);
    expect([code, stderr, json]).toMatchObject([1, '', expected]);
    const earlier = await runJson(verify, [site.file, '--against', bad]);
    expect([earlier.code, earlier.json]).toMatchObject([1, expected]);
    const missing = await runJson(verify, [join(site.folder, 'nothing')]);
    expect([missing.code, missing.json]).toMatchObject([1, failure('file_unusable', { place: expect.any(Object) })]);
  });
});

describe('inspect --json', () => {
  it('writes what the backup says about itself', async () => {
    const { code, json, stderr } = await runJson(inspect, [site.file]);
    expect([code, stderr]).toEqual([0, '']);
    const entry = { seq: expect.any(Number), time: expect.stringMatching(/Z$/) };
    expect(json).toEqual({
      ok: true,
      file: site.file,
      header: expect.objectContaining({ loom_backup_version: 1, state_key: 'default' }),
      manifest: expect.objectContaining({ sha256, documents: 3 }),
      bytes: expect.any(Number),
      documents: 3,
      document_bytes: expect.any(Number),
      largest: expect.arrayContaining([{ name: 'b', bytes: expect.any(Number) }]),
      audit_entries: expect.any(Number),
      audit_first: entry,
      audit_last: entry,
      actions: expect.arrayContaining([{ action: 'state.put', count: expect.any(Number) }]),
    });
  });

  it('reports a file that is not a backup', async () => {
    const page = join(site.folder, 'page.html');
    await writeFile(page, '<html>');
    const { code, json } = await runJson(inspect, [page]);
    expect([code, json]).toEqual([1, failure('invalid_json', { place: { file: page, offset: 0, pointer: '' } })]);
  });
});

describe('drill --json', () => {
  it('writes the report', async () => {
    const { code, json, stderr } = await runJson(drill, ['--out', site.folder]);
    expect([code, stderr]).toEqual([0, '']);
    const report = JSON.parse(await readFile(join(site.folder, 'report.json'), 'utf8'));
    expect(json).toEqual({ ok: true, report });
    expect(report.backup).toEqual(backupMembers(null));
  });

  it('reports the first step that failed, and the report', async () => {
    const { code, json } = await runJson(drill, ['--out', site.folder, '--url', 'http://127.0.0.1:1']);
    const report = JSON.parse(await readFile(join(site.folder, 'report.json'), 'utf8'));
    expect([code, json]).toEqual([1, failure('unreachable', { place: { step: 'status' }, report })]);
  });

  it('reports a drill in place that was not confirmed, and wrong usage', async () => {
    const args = ['--in-place', '--out', site.folder];
    const no = await runJson(drill, args, { answers: ['no'] });
    expect([no.code, no.json, no.stderr]).toEqual([1, failure('not_confirmed'), 'Nothing was changed.\n']);
    const alone = await runJson(drill, args);
    expect([alone.code, alone.json]).toEqual([64, failure('usage')]);
  });
});
