import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { ProbeVerdict } from '../../../src/domain/health/probe.ts';
import { createProbe, type Probe, type ProbeOptions } from '../../../src/persistence/probe/probe.ts';
import { ensureState } from '../../../src/persistence/state/state-row.ts';
import { testConfig } from '../../setup/node/config.ts';
import { captureLog } from '../../setup/node/log.ts';
import { usesPooler } from '../../setup/roles/pooled.ts';
import { createEmptyDatabase, openTolerantPool, type TestDatabase } from '../../setup/server/database.ts';
import { openDoor } from '../../setup/server/door.ts';
import { applyMigrations } from '../../setup/server/migrations.ts';
import { type PrivateServer, startPrivateServer } from '../../setup/server/private-server.ts';

/** Limits that docs/operations.md promises. */
const OUTAGE_SEEN_MS = 10_000;
const RECOVERY_SEEN_MS = 5_000;

const captured = captureLog();
const opened: Probe[] = [];
afterEach(async () => {
  await Promise.all(opened.splice(0).map((probe) => probe.close()));
});

function startProbe(url: string, options: Partial<ProbeOptions> = {}): Probe {
  const { postgres } = testConfig(url);
  const probe = createProbe({
    postgres,
    log: captured.log,
    applicationName: 'loom probe',
    supportedSchemaVersion: 3,
    ...options,
  });
  opened.push(probe);
  probe.start();
  return probe;
}

async function untilReason(probe: Probe, reason: ProbeVerdict['reason'], withinMs: number): Promise<void> {
  await expect.poll(() => probe.verdict().reason, { timeout: withinMs, interval: 20 }).toBe(reason);
}

/** Sets the versions in `loom_meta`, as a migration does. */
async function setVersions(pool: pg.Pool, schemaVersion: number, compatibleFrom: number): Promise<void> {
  await pool.query(
    `update loom_meta set value = to_jsonb(case key when 'schema_version' then $1::int else $2::int end)
      where key in ('schema_version', 'schema_compatible_from')`,
    [schemaVersion, compatibleFrom],
  );
}

/** Creates the tables of LOOM and the state's row, as a node does when it starts. */
async function prepare(url: string): Promise<void> {
  await applyMigrations(url);
  const door = openDoor(url, 1);
  await ensureState(door, 'default');
  await door.close({ deadlineMs: 5_000 });
}

describe('on a healthy server', () => {
  let database: TestDatabase;
  beforeAll(async () => {
    database = await createEmptyDatabase();
  });
  afterAll(() => database.drop());

  test('answers "starting" at once, then follows the schema as it changes', async () => {
    const probe = startProbe(database.url, { intervalMs: 20 });
    expect(probe.verdict()).toMatchObject({ ok: false, reason: 'starting', latencyMs: null });
    await untilReason(probe, 'schema_behind', 5_000);
    await prepare(database.url);
    for (const [version, compatibleFrom, reason] of [
      [3, 1, undefined],
      [4, 4, 'schema_ahead'],
      [4, 3, undefined],
      [2, 1, 'schema_behind'],
      [3, 3, undefined],
    ] as const) {
      await setVersions(database.pool, version, compatibleFrom);
      await untilReason(probe, reason, 5_000);
    }
    expect(probe.verdict()).toMatchObject({ ok: true, database: 'ok', schema: 'ok' });
    expect(probe.verdict().latencyMs).toBeGreaterThanOrEqual(0);
  });

  test('uses one connection, and replaces it when it is cut', async () => {
    await setVersions(database.pool, 3, 1);
    const probe = startProbe(database.url, { intervalMs: 20, applicationName: 'loom probe cut' });
    await untilReason(probe, undefined, 5_000);
    const sessions = async () => {
      const { rows } = await database.pool.query<{ pid: number }>(
        `select pid from pg_stat_activity where application_name = 'loom probe cut' and datname = current_database()`,
      );
      return rows.map(({ pid }) => pid);
    };
    const before = await sessions();
    expect(before).toHaveLength(1);
    await database.pool.query('select pg_terminate_backend($1)', before);
    await expect.poll(async () => (await sessions()).filter((pid) => pid !== before[0])).toHaveLength(1);
    expect(probe.verdict()).toMatchObject({ ok: true });
    await probe.close();
    // PgBouncer keeps its own connection.
    if (!usesPooler) await expect.poll(sessions).toEqual([]);
  });

  test('stays good after a single check that is too slow, and turns bad after several', async () => {
    await setVersions(database.pool, 3, 1);
    const verdicts: ProbeVerdict[] = [];
    const probe = startProbe(database.url, {
      intervalMs: 20,
      deadlineMs: 1_500,
      badChecks: 2,
      onChange: (verdict) => verdicts.push(verdict),
    });
    await untilReason(probe, undefined, 5_000);
    const blocker = await database.pool.connect();
    const badChecks = () => captured.lines.filter((line) => line.includes('no answer within 1500 ms')).length;
    try {
      const before = badChecks();
      await blocker.query('begin; lock table loom_meta in access exclusive mode');
      await expect.poll(badChecks, { timeout: 10_000, interval: 5 }).toBe(before + 1);
      await blocker.query('rollback');
      await sleep(600);
      expect(verdicts).toEqual([expect.objectContaining({ ok: true })]);
      await blocker.query('begin; lock table loom_meta in access exclusive mode');
      await untilReason(probe, 'db_slow', 10_000);
      await blocker.query('rollback');
      await untilReason(probe, undefined, 5_000);
      expect(verdicts.map(({ reason }) => reason)).toEqual([undefined, 'db_slow', undefined]);
    } finally {
      blocker.release(true);
    }
  });

  test('checks at once when it is woken', async () => {
    await setVersions(database.pool, 2, 1);
    const probe = startProbe(database.url, { intervalMs: 600_000 });
    await untilReason(probe, 'schema_behind', 5_000);
    await setVersions(database.pool, 3, 1);
    probe.wake();
    await untilReason(probe, undefined, 5_000);
  });
});

describe('on a server that stops', () => {
  let server: PrivateServer;
  let probe: Probe;
  beforeAll(async () => {
    server = await startPrivateServer();
    await prepare(server.url);
    const pool = openTolerantPool({ connectionString: server.url });
    await setVersions(pool, 3, 1);
    await pool.end();
  });
  afterAll(() => server.stop());

  test('sees within 10 s that it is frozen, and within 5 s that it is back', async () => {
    probe = startProbe(server.url);
    await untilReason(probe, undefined, RECOVERY_SEEN_MS);
    await server.freeze();
    await expect.poll(() => probe.verdict(), { timeout: OUTAGE_SEEN_MS, interval: 20 }).toMatchObject({ ok: false });
    expect(['db_slow', 'db_unreachable']).toContain(probe.verdict().reason);
    // By then the back-off has reached its maximum.
    await sleep(4_000);
    await server.thaw();
    await untilReason(probe, undefined, RECOVERY_SEEN_MS);
  });

  test.each(['kill', 'shutDown'] as const)('sees a %s within 10 s, and the new start within 5 s', async (way) => {
    probe = startProbe(server.url);
    await untilReason(probe, undefined, RECOVERY_SEEN_MS);
    await server[way]();
    await untilReason(probe, 'db_unreachable', OUTAGE_SEEN_MS);
    await sleep(3_000);
    await server.startAgain();
    await untilReason(probe, undefined, RECOVERY_SEEN_MS);
  });

  test('starts before the server does, and closes while it is frozen', async () => {
    await server.shutDown();
    probe = startProbe(server.url);
    await untilReason(probe, 'db_unreachable', OUTAGE_SEEN_MS);
    await server.startAgain();
    await untilReason(probe, undefined, RECOVERY_SEEN_MS);
    await server.freeze();
    await expect(probe.close()).resolves.toBeUndefined();
    await server.thaw();
  });
});

describe('on a server that is not PostgreSQL', () => {
  let server: Server;
  const sockets = new Set<Socket>();
  let connections = 0;

  async function listen(onConnection: (socket: Socket) => void): Promise<string> {
    connections = 0;
    server = createServer((socket) => {
      connections += 1;
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
      // A socket without a reader never emits its end.
      socket.resume();
      onConnection(socket);
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const address = server.address();
    return `postgres://user@127.0.0.1:${typeof address === 'object' ? address?.port : ''}/database`;
  }
  afterEach(async () => {
    for (const socket of sockets) socket.destroy();
    await new Promise((resolve) => server.close(resolve));
  });

  test('aborts a hanging connect at its deadline, and leaves no socket behind', async () => {
    const probe = startProbe(await listen(() => undefined), { deadlineMs: 100 });
    await untilReason(probe, 'db_unreachable', 5_000);
    await expect.poll(() => connections, { timeout: 5_000 }).toBeGreaterThanOrEqual(3);
    expect(sockets.size).toBeLessThanOrEqual(1);
    await probe.close();
    await expect.poll(() => sockets.size).toBe(0);
  });

  test('does not flood the server with connections while the server refuses them', async () => {
    const probe = startProbe(await listen((socket) => socket.destroy()), { intervalMs: 10 });
    await untilReason(probe, 'db_unreachable', 5_000);
    const before = connections;
    const since = performance.now();
    await sleep(2_000);
    // By now the back-off is 500 ms and more.
    expect(connections - before).toBeLessThanOrEqual(1 + (performance.now() - since) / 500);
  });
});
