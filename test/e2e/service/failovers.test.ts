import { expect, onTestFinished, test } from 'vitest';
import { rounds, seededRandom } from '../../setup/depth.ts';
import { expectTrailMakesState } from '../../setup/node/fold.ts';
import { startProgram, waitUntilReady } from '../../setup/node/program.ts';
import { type Failure, failures, startPair } from '../../setup/replication/pair.ts';
import { startTraffic } from '../../setup/rolling/traffic.ts';
import { expectEachOnce } from '../../setup/rolling/trail.ts';
import { openTolerantPool } from '../../setup/server/database.ts';
import { verifyBySql } from '../../setup/server/verify-sql.ts';

const ADMIN_TOKEN = 'admin-token-of-the-failover-test';
const headers = { 'x-loom-admin-token': ADMIN_TOKEN };

/** The longest time from the end of a promotion until each node has acknowledged a commit again. */
const MAX_PAUSE_MS = 5_000;

const FAILOVERS = rounds({ quick: 1, full: 20 });
const NODES = rounds({ quick: 1, full: 2 });

/** What a client gets while no server is the primary. It sends the change again, with the same key. */
const retryCodes = ['database_unavailable', 'commit_outcome_unknown'];

const many = rounds({ quick: 5, full: 100 });

test(`commits go on after each of ${FAILOVERS} failovers, and none is lost`, { timeout: 600_000 }, async () => {
  const pair = await startPair();
  onTestFinished(() => pair.stop());
  const nodes = await Promise.all(
    Array.from({ length: NODES }, () =>
      startProgram({ env: { LOOM_PG_URL: pair.url, LOOM_ADMIN_TOKEN: ADMIN_TOKEN } }),
    ),
  );
  onTestFinished(async () => void (await Promise.all(nodes.map((node) => node.kill()))));
  const urls = nodes.map(({ url }) => url);
  await Promise.all(urls.map(waitUntilReady));
  const traffic = await startTraffic({ nodes: urls, headers, clients: 2, hasWriters: true, retryCodes });

  const pauses: Record<Failure, number[]> = { kill: [], freeze: [], shutDown: [] };
  const random = seededRandom('failovers');
  for (let round = 0; round < FAILOVERS; round += 1) {
    await traffic.untilEachAcknowledges(many);
    const failure = FAILOVERS === 1 ? random.pick(['kill', 'shutDown'] as const) : failures[round % failures.length];
    const promotedMs = await pair.failOver(failure ?? 'kill');
    await traffic.untilEachAcknowledges(1);
    const resumed = urls.map((url) => {
      const first = traffic.acknowledged.find(({ node, atMs }) => node === url && atMs > promotedMs);
      return (first?.atMs ?? Number.POSITIVE_INFINITY) - promotedMs;
    });
    pauses[failure ?? 'kill'].push(Math.max(...resumed));
    if (round + 1 < FAILOVERS) await pair.rejoin();
  }
  await traffic.untilEachAcknowledges(many);
  await traffic.stop();
  expect(traffic.faults()).toEqual([]);

  const pool = openTolerantPool({ connectionString: pair.primaryUrl(), max: 2 });
  onTestFinished(() => pool.end());
  await expectEachOnce(pool, traffic.acknowledged);
  await expectTrailMakesState({ pool, stateKey: 'default' });
  expect(await verifyBySql(pool)).toMatchObject({ ok: true });
  const { rows } = await pool.query(`select count(*)::int as epochs from loom_audit where action = 'epoch'`);
  expect(rows[0].epochs).toBe(FAILOVERS);
  for (const url of urls) {
    const answer = await fetch(`${url}/v1/audit/verify`, { headers });
    expect(await answer.json()).toMatchObject({ ok: true });
    await waitUntilReady(url);
  }
  console.info(`${traffic.acknowledged.length} commits, sent again: ${JSON.stringify(traffic.retried())}`);
  for (const [failure, each] of Object.entries(pauses)) {
    console.info(`commits again, ms after the promotion (${failure}): ${each.map(Math.round).join(' ')}`);
    expect(Math.max(0, ...each)).toBeLessThan(MAX_PAUSE_MS);
  }
});
