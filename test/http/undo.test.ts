import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { asAdmin, createTestServer, json, type TestResponse, type TestServer } from '../setup/node/http.ts';
import { digestTables } from '../setup/server/digest.ts';

const UNDO = '/v1/admin/persistence/undo';
const SCRATCH = '/v1/admin/persistence/scratch';

let server: TestServer;
beforeAll(async () => {
  server = await createTestServer();
});
afterAll(() => server.close());

const put = (name: string, body: string) => server.request('PUT', `/v1/documents/${name}`, { body });
const post = (url: string, body: string, headers: Record<string, string> = json): Promise<TestResponse> =>
  server.request('POST', url, { headers: { ...asAdmin, ...headers }, body });
const get = (url: string) => server.request('GET', url, { headers: asAdmin });
const backup = async (): Promise<string> => (await get('/v1/admin/persistence/backup')).text;
const restore = (text: string, members = '') =>
  post('/v1/admin/persistence/restore', `{"confirm":"restore",${members}"backup":${text}}`);
const status = async () => (await get('/v1/admin/status')).json();
const remove = (key: string) => server.request('DELETE', `${SCRATCH}/${encodeURIComponent(key)}`, { headers: asAdmin });

describe('the undo route', () => {
  it.each<[string, string, Record<string, string>, number, string]>([
    ['text that is not JSON', 'undo', json, 400, 'invalid_json'],
    ['an empty body', '', json, 400, 'invalid_json'],
    ['a list', '["undo"]', json, 400, 'invalid_undo_request'],
    ['no confirmation', '{}', json, 400, 'confirm_missing'],
    ['the confirmation of a restore', '{"confirm":"restore"}', json, 400, 'confirm_missing'],
    ['an unknown member', '{"confirm":"undo","dryrun":true}', json, 400, 'invalid_undo_request'],
    ['an invalid event id', '{"confirm":"undo","event_id":"7"}', json, 400, 'invalid_undo_request'],
    ['an invalid revision', '{"confirm":"undo","expect_revision":-1}', json, 400, 'invalid_undo_request'],
    ['a member twice', '{"confirm":"undo","dry_run":true,"dry_run":false}', json, 422, 'duplicate_member'],
    ['a body above its limit', `{"confirm":"undo","x":"${'x'.repeat(10_000)}"}`, json, 413, 'document_too_large'],
    ['another content type', '{"confirm":"undo"}', { 'content-type': 'text/plain' }, 415, 'unsupported_media_type'],
    ['an undo without an undo record', '{"confirm":"undo"}', json, 409, 'nothing_to_undo'],
  ])('refuses %s', async (_what, body, headers, code, problem) => {
    const answer = await post(UNDO, body, headers);
    expect([answer.status, answer.json().code]).toEqual([code, problem]);
  });

  it('names the invalid member', async () => {
    expect((await post(UNDO, '{"confirm":"undo","event_id":7}')).json().pointer).toBe('/event_id');
    expect((await post(UNDO, '{"confirm":"undo","dryrun":true}')).json().pointer).toBe('/dryrun');
  });

  it('undoes the last restore, whose undo record status lists with time and size', async () => {
    await put('a', '"first"');
    const text = await backup();
    await put('a', '"second"');
    expect((await status()).undo).toEqual({ kept_most: 3, bytes: 0, kept: [] });
    const restored = (await restore(text)).json();
    const { undo, last_restore_at } = await status();
    expect(undo.kept).toEqual([
      {
        event_id: restored.event_id,
        kind: 'restore',
        taken_at: last_restore_at,
        age_seconds: expect.any(Number),
        revision: restored.revision,
        previous_revision: restored.based_on_revision,
        replaced_state: true,
        documents: 1,
        audit_entries: 0,
        bytes: undo.bytes,
        substantial: true,
      },
    ]);
    expect(undo.bytes).toBeGreaterThan(0);

    const named = `"event_id":"${restored.event_id.toUpperCase()}"`;
    const plan = (await post(UNDO, `{"confirm":"undo","dry_run":true,${named}}`)).json();
    expect(plan).toMatchObject({ dry_run: true, documents: { changed: 1 } });
    const answer = await post(UNDO, `{"confirm":"undo","expect_revision":${plan.based_on_revision}}`);
    expect(answer.status).toBe(200);
    expect(answer.json()).toMatchObject({ undone: [{ event_id: restored.event_id }], documents: { changed: 1 } });
    expect((await server.request('GET', '/v1/documents/a')).text).toContain('second');
    expect((await status()).undo.kept.map((one: { kind: string }) => one.kind)).toEqual(['undo', 'restore']);
    expect((await get('/v1/audit?action=undo')).json().entries).toMatchObject([{ action: 'undo', actor: 'admin' }]);
  });
});

describe('scratch states over HTTP', () => {
  it('are listed, verified and dropped, also with unusual names', async () => {
    const name = 'trial of ü/1';
    const text = await backup();
    const before = await digestTables(server.pool);
    const { last_backup_at: lastBackupAt } = await status();
    const restored = await restore(text, `"into_scratch":${JSON.stringify(name)},`);
    expect(restored.status).toBe(200);
    expect((await status()).scratch_states).toMatchObject([{ state_key: name, documents: 1 }]);
    const verdict = (await get(`/v1/audit/verify?scratch=${encodeURIComponent(name)}`)).json();
    expect(verdict).toMatchObject({ ok: true, head: restored.json().scratch.audit_head });
    const exported = await get(`/v1/admin/persistence/backup?scratch=${encodeURIComponent(name)}`);
    expect(exported.json()).toMatchObject({ state_key: name, manifest: { documents: 1, audit_verified: true } });
    expect((await status()).last_backup_at).toBe(lastBackupAt);
    // `last_check` covers the live chain only.
    expect((await status()).audit.last_check?.by).not.toBe('verify');

    expect((await remove(name)).json()).toEqual({
      dropped: true,
      state_key: name,
      documents: 1,
      audit_entries: verdict.entries,
    });
    expect((await status()).scratch_states).toEqual([]);
    expect(await digestTables(server.pool)).toBe(before);
  });

  it.each(['default', 'nowhere', '..', 'x'.repeat(300)])('named %s do not exist and cannot be dropped', async (key) => {
    const before = await digestTables(server.pool);
    const answer = await remove(key);
    expect([404, 422]).toContain(answer.status);
    expect(answer.json().code).toMatch(/^(scratch_not_found|not_found)$/);
    expect(await digestTables(server.pool)).toBe(before);
    for (const name of ['nowhere', '', '%00', 'x'.repeat(129)]) {
      expect((await get(`/v1/audit/verify?scratch=${name}`)).json().code).toBe('scratch_not_found');
    }
  });
});
