import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { asAdmin, createTestServer, json, type TestResponse, type TestServer } from '../../setup/node/http.ts';

let server: TestServer;
beforeEach(async () => {
  server = await createTestServer();
  for (const value of ['1', '2', '3']) await put(value);
});
afterEach(() => server.close());

const put = (body: string): Promise<TestResponse> => server.request('PUT', '/v1/documents/a', { body });
const get = (url: string): Promise<TestResponse> => server.request('GET', url, { headers: asAdmin });
const backup = (query = ''): Promise<TestResponse> => get(`/v1/admin/persistence/backup${query}`);
const restore = (body: string | Buffer, headers = json): Promise<TestResponse> =>
  server.request('POST', '/v1/admin/persistence/restore', { headers: { ...asAdmin, ...headers }, body });
const status = async () => (await get('/v1/admin/status')).json();

async function tamper(seq: number): Promise<void> {
  await server.pool.query(`begin; set local session_replication_role = replica;
    update loom_audit set entry = entry || '{"actor":"x"}' where seq = ${seq}; commit`);
}

describe('a chain that was tampered with', () => {
  it('stays reported as broken when a part of it is later found valid', async () => {
    expect((await get('/metrics')).text).toMatch(/^loom_audit_chain_ok NaN$/im);
    await backup();
    expect((await status()).audit.last_check).toMatchObject({ ok: true, by: 'backup', from_seq: 1, to_seq: 3 });
    expect((await get('/metrics')).text).toMatch(/^loom_audit_chain_ok 1$/m);

    await tamper(1);
    await get('/v1/audit/verify');
    const found = { ok: false, by: 'verify', from_seq: 1, to_seq: 3, first_bad_seq: 1 };
    expect((await status()).audit.last_check).toMatchObject(found);
    expect((await backup('?audit_limit=2')).json().manifest.audit_verified).toBe(true);
    expect((await status()).audit.last_check).toMatchObject(found);
    expect((await get('/metrics')).text).toMatch(/^loom_audit_chain_ok 0$/m);
  });

  it('keeps backups out of status, because they are not restorable, unless they leave out the trail', async () => {
    await tamper(2);
    expect((await backup()).json().manifest.audit_verified).toBe(false);
    expect((await status()).last_backup_at).toBeNull();
    await backup('?include_audit=false');
    expect((await status()).last_backup_at).toMatch(/Z$/);
  });

  it('refuses commits and restores with audit_chain_broken when the state row names another head', async () => {
    const text = (await backup()).text;
    await server.pool.query(
      `update loom_state set audit_seq = 1, audit_hash = (select hash from loom_audit where seq = 1)`,
    );
    for (const answer of [await put('4'), await restore(`{"confirm":"restore","backup":${text}}`)]) {
      expect([answer.status, answer.json().code]).toEqual([500, 'audit_chain_broken']);
    }
    expect((await get('/v1/audit/verify')).json()).toMatchObject({ ok: false, first_bad_seq: 2 });
  });
});

describe('a state that was dropped under its node', () => {
  it('is reported as starting instead of an internal error', async () => {
    await server.pool.query(`delete from loom_state where state_key = 'default'`);
    const reads = [
      '/v1/state',
      '/v1/documents',
      '/v1/documents/a',
      '/v1/documents/none',
      '/v1/audit',
      '/v1/audit/verify',
    ];
    for (const answer of [await put('4'), ...(await Promise.all(reads.map(get)))]) {
      expect([answer.status, answer.json().code]).toEqual([503, 'starting']);
    }
  });
});

describe('a state whose documents were changed by hand', () => {
  it('is refused before the first byte, and the backup counts as failed', async () => {
    await server.pool.query(
      `insert into loom_document (state_key, name, value, revision) values ('default', 'b', '1', 3)`,
    );
    for (const answer of [await get('/v1/state'), await backup()]) {
      expect([answer.status, answer.json().code]).toEqual([500, 'state_inconsistent']);
      expect(answer.json()).not.toHaveProperty('state');
    }
    expect((await status()).last_backup_at).toBeNull();
    expect((await get('/v1/documents/a')).status).toBe(200);
  });

  it('names the document in the verification, in status and in metrics, until the trail has it', async () => {
    await server.pool.query(
      `insert into loom_document (state_key, name, value, revision) values ('default', 'b', '1', 3)`,
    );
    const answer = await get('/v1/audit/verify');
    expect([answer.status, answer.json()]).toMatchObject([
      200,
      { ok: false, entries: 3, first_bad_seq: null, reason: 'document_mismatch', document: 'b', mismatch_count: 2 },
    ]);
    const found = { ok: false, by: 'verify', first_bad_seq: null, reason: 'document_mismatch' };
    expect((await status()).audit.last_check).toMatchObject(found);
    expect((await get('/metrics')).text).toMatch(/^loom_audit_chain_ok 0$/m);
    // A backup checks only the chain, so it does not clear the verdict.
    await backup('?audit_limit=2');
    await server.pool.query('update loom_state set documents = 2, bytes = (select sum(bytes) from loom_document)');
    expect((await backup()).status).toBe(200);
    expect((await status()).audit.last_check).toMatchObject(found);
    await server.request('PUT', '/v1/documents/b', { body: '2' });
    expect((await get('/v1/audit/verify')).json()).toMatchObject({ ok: true, told_from_seq: 1, untold_documents: 0 });
    expect((await status()).audit.last_check).toMatchObject({ ok: true, first_bad_seq: null });
  });
});

describe('a restore', () => {
  it('of gzip data without the content-encoding header gets a hint to send it', async () => {
    const packed = Buffer.from([0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]);
    const answer = await restore(packed);
    expect(answer.json()).toMatchObject({
      code: 'invalid_json',
      detail: expect.stringContaining('content-encoding: gzip'),
    });
  });
});
