import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool } from 'pg';
import { expectTrailMakesState } from '../setup/node/fold.ts';
import { ADMIN_TOKEN } from '../setup/node/http.ts';
import { openTolerantPool } from '../setup/server/database.ts';
import { verifyBySql } from '../setup/server/verify-sql.ts';
import { startLoad } from './clients.ts';
import { createHistory, type History } from './history.ts';
import { inject, type Promotion } from './inject.ts';
import { type Allowed, compare, type Findings, staleReads } from './model.ts';
import type { Operation, RecordedEntry } from './operation.ts';
import type { FaultKind, Plan, PlannedFault } from './plan.ts';
import { openSite, type Site, type SiteNode } from './site.ts';
import { judge, startWatch, type Verdicts, type Watch } from './watch.ts';

/** Bounds what a node may do: `docs/operations.md` promises these figures. */
export const bounds = { readyMs: 900, lieMs: 10_000, recoveryMs: 5_000 } as const;

/** A recovery that takes longer ends the round. */
const MAX_RECOVERY_MS = 40_000;
/** Time for clients to end what they began. A client waits 6 s for an answer. */
const MAX_STOP_MS = 15_000;
/** Load without a fault, before each step. */
const CALM_MS = 500;

/** What a round found. It is good if `faults` is empty. */
export interface Result extends Omit<Findings, 'faults'>, Verdicts {
  plan: Plan;
  faults: string[];
  history: string[];
  seconds: number;
  /** The kinds of each step, and the time until all nodes were ready and committed again. */
  recoveries: { kinds: FaultKind[]; ms: number }[];
}

const nothing = { entries: 0, acknowledged: 0, lost: 0, doubled: 0, rolledBack: 0 };
const noVerdicts = { readyMs: 0, falselyReadyMs: 0, falselyUnreadyMs: 0, unanswered: 0 };

/**
 * Runs the faults of a plan under load, then compares everything with the model. With `timed`, also compares the times
 * with `bounds`. Rejects if the harness fails.
 */
export async function runRound(plan: Plan, { timed }: { timed: boolean }): Promise<Result> {
  const history = createHistory();
  const site = await openSite(plan, history);
  const faults: string[] = [];
  const recoveries: Result['recoveries'] = [];
  const result = (more: Partial<Result>): Result => {
    const lines = [...history.lines(), ...site.nodes.flatMap(shownWarnings)];
    return {
      plan,
      ...nothing,
      ...noVerdicts,
      faults,
      history: lines,
      seconds: history.now() / 1_000,
      recoveries,
      ...more,
    };
  };
  try {
    const urls = [...site.nodes.map(({ url }) => url), ...(site.balancer === undefined ? [] : balanced(site))];
    const watch = startWatch(site.nodes, history, faults);
    const load = startLoad(urls, plan.seed, history);
    const allowed: Allowed = { promotions: 0, isLossy: false };
    try {
      for (const step of plan.steps) {
        await sleep(CALM_MS);
        recoveries.push(await runStep(site, step, watch, allowed, history));
      }
    } catch (error) {
      faults.push(error instanceof Error ? error.message : String(error));
    }
    await load.stop(MAX_STOP_MS);
    await watch.stop();
    faults.push(...load.faults);
    const verdicts = worst(site.nodes.map((node) => judge(node, watch.sights.get(node) ?? { ready: [], commits: [] })));
    if (timed) faults.push(...boundFaults(verdicts, recoveries));
    // Before its first commit, a standby that lacks commits shows an older state in the same epoch.
    if (!allowed.isLossy) faults.push(...staleReads(load.reads, load.operations));
    const found = await examine(site, [...load.operations, ...watch.operations], allowed, history);
    return result({ ...found, ...verdicts, faults: [...faults, ...found.faults] });
  } finally {
    await site.close();
  }
}

/** As many addresses of the balancer as nodes, so that half of the clients use it. */
function balanced({ balancer, nodes }: Site): string[] {
  return nodes.map(() => balancer?.url ?? '');
}

async function runStep(site: Site, step: PlannedFault[], watch: Watch, allowed: Allowed, history: History) {
  const kinds = step.map(({ kind }) => kind);
  const running: Promise<number>[] = [];
  for (const fault of step) {
    const before = fault.follows ? running.at(-1) : undefined;
    running.push(Promise.resolve(before).then(() => runFault(site, fault, allowed, history)));
  }
  const ends = await Promise.all(running);
  const ms = await watch.untilRecovered(Math.max(...ends), MAX_RECOVERY_MS);
  history.note(`recovered from ${kinds.join(' and ')} after ${Math.round(ms)} ms`);
  return { kinds, ms };
}

/** Runs one fault, and returns when it was over. */
async function runFault(site: Site, fault: PlannedFault, allowed: Allowed, history: History): Promise<number> {
  await sleep(fault.afterMs);
  history.note(`${fault.kind} begins`);
  const end = await inject(site, fault);
  history.note(`${fault.kind} has begun`);
  await sleep(fault.lastsMs);
  history.note(`${fault.kind} ends`);
  const promotion = await end();
  if (promotion !== undefined) recordPromotion(site, fault.kind, promotion, allowed);
  history.note(`${fault.kind} has ended`);
  return history.now();
}

function recordPromotion(site: Site, kind: FaultKind, { isLossy }: Promotion, allowed: Allowed): void {
  allowed.promotions += 1;
  allowed.isLossy ||= isLossy;
  if (kind !== 'server-recovery' && site.standby !== undefined) site.primary = site.standby;
}

function worst(verdicts: Verdicts[]): Verdicts {
  const max = (name: keyof Verdicts): number => Math.max(...verdicts.map((one) => one[name]));
  return {
    readyMs: max('readyMs'),
    falselyReadyMs: max('falselyReadyMs'),
    falselyUnreadyMs: max('falselyUnreadyMs'),
    unanswered: max('unanswered'),
  };
}

function boundFaults(verdicts: Verdicts, recoveries: Result['recoveries']): string[] {
  const { readyMs, falselyReadyMs, falselyUnreadyMs, unanswered } = verdicts;
  const seconds = (ms: number): string => `${(ms / 1_000).toFixed(1)} s`;
  return [
    ...(readyMs > bounds.readyMs ? [`an answer of /ready took ${Math.round(readyMs)} ms`] : []),
    ...(falselyReadyMs > bounds.lieMs ? [`/ready was 200 for ${seconds(falselyReadyMs)} without a commit`] : []),
    ...(falselyUnreadyMs > bounds.lieMs
      ? [`/ready was 503 for ${seconds(falselyUnreadyMs)} although commits worked`]
      : []),
    ...(unanswered > 0 ? [`${unanswered} requests of /ready had no answer`] : []),
    ...recoveries
      .filter(({ ms }) => ms > bounds.recoveryMs)
      .map(({ kinds, ms }) => `the recovery from ${kinds.join(' and ')} took ${seconds(ms)}`),
  ];
}

/** Holds the database, read without a node, to the model, and verifies it in each of the three ways. */
async function examine(site: Site, operations: Operation[], allowed: Allowed, history: History): Promise<Findings> {
  const pool = openTolerantPool({ connectionString: site.primary.url, max: 2 });
  try {
    const { rows } = await pool.query<{ entry: RecordedEntry }>(
      `select entry || jsonb_build_object('seq', seq) as entry from loom_audit where state_key = 'default' order by seq`,
    );
    const findings = compare(
      operations,
      rows.map(({ entry }) => entry),
      allowed,
    );
    history.note(`${findings.entries} entries, ${findings.acknowledged} acknowledged commits`);
    const checks = await Promise.all([
      faultOf('the trail makes another state', () => expectTrailMakesState({ pool, stateKey: 'default' })),
      faultOf('docs/verify-chain.sql', () => requireValid(pool)),
      ...site.nodes.map((node) => faultOf(`GET /v1/audit/verify of ${node.name}`, () => requireVerified(node))),
    ]);
    return { ...findings, faults: [...findings.faults, ...checks.flat()] };
  } finally {
    await pool.end();
  }
}

async function faultOf(what: string, check: () => Promise<void>): Promise<string[]> {
  try {
    await check();
    return [];
  } catch (error) {
    return [`${what}: ${error instanceof Error ? error.message : String(error)}`];
  }
}

async function requireValid(pool: Pool): Promise<void> {
  const verdict = await verifyBySql(pool);
  if (!verdict.ok) throw new Error(JSON.stringify(verdict));
}

async function requireVerified({ url }: SiteNode): Promise<void> {
  const answer = await fetch(`${url}/v1/audit/verify`, { headers: { 'x-loom-admin-token': ADMIN_TOKEN } });
  const text = await answer.text();
  if (answer.status !== 200 || JSON.parse(text).ok !== true) throw new Error(`${answer.status} ${text}`);
}

const MAX_SHOWN_WARNINGS = 40;

function shownWarnings(node: SiteNode): string[] {
  return node
    .warnings()
    .slice(-MAX_SHOWN_WARNINGS)
    .map((entry) => `${node.name} ${entry}`);
}
