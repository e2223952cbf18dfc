// persistence/probe/ watches the database for `/ready` over its own connection. It imports config, domain, limits, log
// and, of persistence, connection/ and schema/. Of a state it knows only the key: whether its row exists decides
// whether a node can serve. It must not know what the rows contain.

import { setTimeout as sleep } from 'node:timers/promises';
import type { PostgresConfig } from '../../config/config.ts';
import type { ProbeVerdict } from '../../domain/health/probe.ts';
import type { CommitFailures } from '../../domain/store.ts';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import type { Queries } from '../connection/connection.ts';
import { describeFault, originalOf } from '../connection/faults.ts';
import type { Hosts } from '../connection/hosts.ts';
import { judgeServing, type ServingVerdict } from '../schema/serving.ts';
import { readServingFacts } from '../schema/serving-facts.ts';
import { createCommitWatch } from './commit-watch.ts';
import { createDeadline, DeadlineError } from './deadline.ts';
import { createProbeConnection, refusalOf } from './probe-connection.ts';
import { type CheckOutcome, nextProbeState, probePauseMs, startingState } from './verdict.ts';

export interface ProbeOptions {
  postgres: PostgresConfig;
  /** The servers, in an order that the pool shares. */
  hosts?: Hosts;
  log: Log;
  applicationName: string;
  /** Schema version that this node supports. */
  supportedSchemaVersion: number;
  /** Reports the node's own commits that PostgreSQL failed. By default, none has failed. */
  commitFailures?: () => CommitFailures;
  intervalMs?: number;
  /** Deadline of one check, including the time to connect. */
  deadlineMs?: number;
  badChecks?: number;
  /** A monotonic clock, in milliseconds. */
  now?: () => number;
  /** Called after `ok` or `reason` has changed, or the `detail` of a server that answers. */
  onChange?: (verdict: ProbeVerdict) => void;
}

export type Probe = ReturnType<typeof createProbe>;

/**
 * Watches the database over its own connection, so that neither a full pool nor a silent server delays `/ready`. Checks
 * run one after another, each with a deadline. While they fail, the pauses between them grow.
 */
export function createProbe(options: ProbeOptions) {
  const { intervalMs = limits.probeIntervalMs, badChecks = limits.probeBadChecks } = options;
  const pauses = { intervalMs, minBackoffMs: limits.minProbeBackoffMs, maxBackoffMs: limits.maxProbeBackoffMs };
  const pause = createPause();
  const checker = createChecker(options);
  let state = startingState;
  let running: Promise<void> | undefined;
  let closed = false;

  async function run(): Promise<void> {
    while (!closed) {
      const outcome = await checker.check();
      if (closed) break;
      const before = state.verdict;
      state = nextProbeState(state, outcome, { badChecks });
      reportChange(before, state.verdict, options);
      await pause.wait(probePauseMs(state.badInARow, pauses));
    }
    checker.close();
  }

  return {
    /** Returns the last verdict. Never waits. */
    verdict: () => state.verdict,
    start: (): void => {
      if (!closed) running ??= run();
    },
    /** Starts the next check at once, for example after a migration. */
    wake: pause.wake,
    close: async (): Promise<void> => {
      closed = true;
      pause.wake();
      checker.close();
      await running;
    },
  };
}

function reportChange(before: ProbeVerdict, after: ProbeVerdict, options: ProbeOptions): void {
  const { log, onChange } = options;
  const { ok, reason, detail } = after;
  // The faults of a server that does not answer can alternate: status shows the last one, the log only the first.
  const isAnswered = after.database !== 'unreachable' && after.database !== 'slow';
  if (before.ok === ok && before.reason === reason && (before.detail === detail || !isAnswered)) return;
  if (ok) log.info({ latencyMs: after.latencyMs }, 'the database is ready');
  else {
    // The node sets up a new database or a new state next, so this needs no warning.
    const isNew = reason === 'starting' || (before.reason === 'starting' && reason === 'schema_behind');
    log[isNew ? 'info' : 'warn']({ reason }, `the database is not ready: ${detail ?? reason}`);
  }
  onChange?.(after);
}

function createChecker({ postgres, applicationName, log, ...options }: ProbeOptions) {
  const { now = () => performance.now(), deadlineMs = limits.probeDeadlineMs, supportedSchemaVersion } = options;
  const commitWatch = createCommitWatch({ now, failures: options.commitFailures });
  const connection = createProbeConnection(postgres, { applicationName, hosts: options.hosts, deadlineMs });
  let hadState = false;

  async function readServing(queries: Queries): Promise<ServingVerdict> {
    const facts = await readServingFacts(queries, postgres.stateKey);
    const serving = judgeServing(facts, { supportedSchemaVersion, hadState });
    // The node creates the state anew only together with the schema: a new database has replaced the one it knew.
    hadState = serving.schema !== 'behind' && (hadState || facts.state === 'present');
    return serving.reason === undefined ? { ...serving, ...commitWatch.check(facts.waiting) } : serving;
  }

  async function check(): Promise<CheckOutcome> {
    const startedMs = now();
    const elapsedMs = (): number => Math.round((now() - startedMs) * 10) / 10;
    const deadline = createDeadline(deadlineMs);
    let connected = connection.isOpen();
    try {
      const opened = await connection.lend(deadline.passed);
      connected = true;
      const serving = await Promise.race([readServing(opened), deadline.passed]);
      // After a failover, the address may lead to another server.
      if (serving.reason === 'db_read_only') connection.drop();
      return { kind: 'answered', latencyMs: elapsedMs(), serving };
    } catch (error) {
      connection.drop();
      const detail = describeFault(error);
      const refusal = refusalOf(error);
      if (refusal !== undefined) return { kind: 'answered', latencyMs: elapsedMs(), serving: { ...refusal, detail } };
      if (!connection.isClosed()) log.debug({ err: originalOf(error) }, `a check of the database failed: ${detail}`);
      return { kind: error instanceof DeadlineError && connected ? 'slow' : 'unreachable', detail };
    } finally {
      deadline.clear();
    }
  }

  return {
    check,
    /** Cuts the connection. A check in flight fails. */
    close: connection.close,
  };
}

/** Creates a pause that `wake` ends early. A wake without a wait applies to the next wait. */
function createPause(): { wait(pauseMs: number): Promise<void>; wake(): void } {
  let woken = new AbortController();
  return {
    wait: async (pauseMs) => {
      await sleep(pauseMs, undefined, { signal: woken.signal }).catch(() => undefined);
      woken = new AbortController();
    },
    wake: () => woken.abort(),
  };
}
