import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Store } from '../../src/domain/store.ts';
import { createLogger } from '../../src/log.ts';
import { createOperations } from '../../src/persistence/activity/operations.ts';
import { openDatabase } from '../../src/persistence/connection/database.ts';
import { CURRENT_SCHEMA_VERSION } from '../../src/persistence/schema/schema.ts';
import { createStore } from '../../src/persistence/store.ts';
import {
  asAdmin,
  createBareServer,
  createTestServer,
  inject,
  readinessFor,
  readyNow,
  type TestServer,
  testConfig,
} from '../setup/node/http.ts';
import { startPrivateServer } from '../setup/server/private-server.ts';

let server: TestServer;
beforeAll(async () => {
  server = await createTestServer();
  await server.request('PUT', '/v1/documents/a', { body: '{"n":1}' });
});
afterAll(() => server.close());

const get = (url: string, from: Pick<TestServer, 'app'> = server) =>
  inject(from, { method: 'GET', url, headers: asAdmin });

describe('the probes', () => {
  test('answer without asking the database', async () => {
    expect((await get('/live')).json()).toEqual({ ok: true });
    const ready = await get('/ready');
    expect(ready.status).toBe(200);
    expect(ready.json()).toEqual({ ok: true, checks: { http: 'ok', database: 'ok', schema: 'ok' } });
  });

  test.each([
    ['starting', readinessFor('starting', 'unknown')],
    ['db_unreachable', readinessFor('unreachable', 'unknown')],
    ['db_slow', readinessFor('slow', 'unknown')],
    ['schema_behind', readinessFor('ok', 'behind')],
    ['schema_ahead', readinessFor('ok', 'ahead')],
    ['draining', readinessFor('ok', 'ok', true)],
  ])('give the reason why the node is not ready: %s', async (reason, readiness) => {
    server.setReadiness(readiness);
    try {
      const ready = await get('/ready');
      expect(ready.status).toBe(503);
      expect(ready.json()).toEqual({ ok: false, checks: readiness.checks, reason });
      expect((await get('/live')).status).toBe(200);
    } finally {
      server.setReadiness(readyNow);
    }
  });
});

describe('the gate', () => {
  const ungated = ['/live', '/ready', '/metrics', '/openapi.json', '/v1/admin/status', '/v1/admin/persistence/schema'];
  const gated = (): { method: string; url: string }[] => server.routes().filter(({ url }) => !ungated.includes(url));

  test.each([
    ['starting', readinessFor('starting', 'unknown')],
    ['schema_behind', readinessFor('ok', 'behind')],
    ['schema_ahead', readinessFor('ok', 'ahead')],
  ])('keeps every data route away from the database while it is closed: %s', async (code, readiness) => {
    const refuse = (): never => {
      throw new Error('the database was asked');
    };
    // Throws when a route calls any verb but `observe`.
    const untouchable = new Proxy(server.store, {
      get: (store, name) => (name === 'observe' ? store.observe : refuse),
    });
    const closed = createBareServer(untouchable, testConfig(server.database.url));
    closed.setReadiness(readiness);
    for (const { method, url } of gated()) {
      const refused = await inject(closed, {
        method: method as 'GET',
        url: url.replace(':name', 'x'),
        headers: asAdmin,
      });
      expect([method, url, refused.status]).toEqual([method, url, 503]);
      expect(Number(refused.headers['retry-after'])).toBeGreaterThan(0);
      if (method !== 'HEAD') expect(refused.json().code).toBe(code);
    }
    await closed.close();
  });

  test('stays open while the node drains, and closes the connection after each answer', async () => {
    server.setReadiness(readinessFor('ok', 'ok', true));
    const served = await get('/v1/documents/a');
    server.setReadiness(readyNow);
    expect(served.status).toBe(200);
    expect(served.headers.connection).toBe('close');
  });
});

describe('the schema route', () => {
  test('reports the schema of the database and the version that the node supports', async () => {
    expect((await get('/v1/admin/persistence/schema')).json()).toMatchObject({
      backend: 'postgres',
      state_key: 'default',
      initialized: true,
      schema_version: CURRENT_SCHEMA_VERSION,
      supported_schema_version: CURRENT_SCHEMA_VERSION,
      pending: [],
    });
  });
});

describe('status', () => {
  test('reports state, audit trail, schema, database and node', async () => {
    const status = (await get('/v1/admin/status')).json();
    const state = (await get('/v1/documents')).json();
    expect(status.state).toMatchObject({ revision: state.revision, epoch: state.epoch, documents: 1, bytes: 8 });
    expect(status.audit).toEqual({
      entries: 1,
      head: { seq: 1, hash: expect.stringMatching(/^[0-9a-f]{64}$/) },
      last_check: null,
    });
    await get('/v1/audit/verify');
    const checked = (await get('/v1/admin/status')).json().audit.last_check;
    expect(checked).toMatchObject({ ok: true, by: 'verify', first_bad_seq: null });
    expect(status).toMatchObject({
      version: '0.0.0-test',
      node_version: process.version,
      state_key: 'default',
      ready: { ok: true },
      schema: { version: CURRENT_SCHEMA_VERSION, supported: CURRENT_SCHEMA_VERSION, pending: 0 },
      database: { ok: true, version: expect.stringMatching(/^\d+/), latency_ms: expect.any(Number) },
      pool: { max: 10, waiting: 0 },
      queue: { depth: 0 },
      operations: [],
      scratch_states: [],
      locks: { state: null, restore: null },
      last_backup_at: null,
      last_restore_at: null,
      ready_detail: null,
      future_times: [],
      memory: { rss_bytes: expect.any(Number) },
    });
    // The first sample is due after 20 ms.
    await expect
      .poll(async () => (await get('/v1/admin/status')).json().event_loop.delay_p99_ms)
      .toEqual(expect.any(Number));
  });
});

describe('metrics', () => {
  test('count requests by route, count commits, and report the state', async () => {
    const { text, headers } = await get('/metrics');
    expect(headers['content-type']).toMatch(/^text\/plain/);
    expect(text).toContain(
      'loom_http_request_duration_seconds_count{method="PUT",route="/v1/documents/:name",status="201"} 1',
    );
    expect(text).toContain('loom_commits_total 1');
    expect(text).toContain('loom_state_revision 1');
    expect(text).toContain('loom_audit_entries 1');
    expect(text).toContain('loom_last_backup_timestamp_seconds 0');
    expect(text).toContain('loom_ready 1');
    expect(text).toContain('loom_undo_records_bytes 0');
    expect(Number(/^loom_database_bytes (\d+)$/m.exec(text)?.[1])).toBeGreaterThan(1_000_000);
    expect(text).toContain('loom_pool_connections{condition="max"} 10');
    expect(text).toMatch(/nodejs_eventloop_lag_p99_seconds/);
  });
});

test('status and metrics answer while PostgreSQL is frozen, with null and NaN for its values', async () => {
  const frozen = await startPrivateServer();
  const config = testConfig(frozen.url, { LOOM_PG_CONNECT_TIMEOUT_MS: '500' });
  const database = openDatabase(config.postgres, {
    log: createLogger({ level: 'silent' }),
    applicationName: 'loom test',
  });
  await database.execute('select 1');
  const operations = createOperations();
  const store: Store = createStore({
    database,
    stateKey: 'default',
    maxDocumentBytes: 1024,
    migrations: [],
    operations,
  });
  const node = createBareServer(store, config);
  try {
    await frozen.freeze();
    const status = await get('/v1/admin/status', node);
    expect(status.status).toBe(200);
    expect(status.json()).toMatchObject({
      version: '0.0.0-test',
      state: { revision: null, epoch: null, documents: null, bytes: null },
      audit: { entries: null, head: null },
      database: { ok: false, code: 'database_unavailable' },
      locks: null,
    });
    expect((await get('/metrics', node)).text).toContain('loom_state_revision Nan');
    expect((await get('/v1/admin/persistence/schema', node)).json()).toMatchObject({ code: 'database_unavailable' });
  } finally {
    await frozen.stop();
    await node.close();
    await database.close({ deadlineMs: 100 });
  }
});
