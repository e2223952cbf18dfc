// persistence/probe/ watches the database for `/ready` over its own connection. It imports config, domain, limits, log
// and, of persistence, connection/ and schema/. Of a state it knows only the key: whether its row exists decides whether
// a node can serve. It must not know what the rows contain.

import { setTimeout as sleep } from 'node:timers/promises';
import type { PostgresConfig } from '../../config/config.ts';
import type { ProbeVerdict } from '../../domain/probe.ts';
import type { CommitFailures } from '../../domain/store.ts';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import { describeFault, type Fault, faultOf, originalOf } from '../connection/faults.ts';
import type { Hosts } from '../connection/hosts.ts';
import { createSoleConnection, type SoleConnection } from '../connection/sole-connection.ts';
import { judgeServing, type ServingVerdict } from '../schema/serving.ts';
import { readServingFacts } from '../schema/serving-facts.ts';
import { createCommitWatch } from './commit-watch.ts';
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
  /** Called after `ok`, `reason` or `detail` has changed. */
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
      reportChange(before, state.verdict, checker.lastFault(), options);
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

function reportChange(before: ProbeVerdict, after: ProbeVerdict, lastFault: string, options: ProbeOptions): void {
  const { log, onChange } = options;
  const { ok, reason, detail } = after;
  if (before.ok === ok && before.reason === reason && before.detail === detail) return;
  if (ok) log.info({ latencyMs: after.latencyMs }, 'the database is ready');
  else {
    // The node sets up a new database or a new state next, so this needs no warning.
    const isNew = reason === 'starting' || (before.reason === 'starting' && reason === 'schema_behind');
    const isAnswered = after.database !== 'unreachable' && after.database !== 'slow';
    const cause = isAnswered ? (detail ?? reason) : lastFault;
    log[isNew ? 'info' : 'warn']({ reason }, `the database is not ready: ${cause}`);
  }
  onChange?.(after);
}

function createChecker({ postgres, applicationName, log, ...options }: ProbeOptions) {
  const { now = () => performance.now(), deadlineMs = limits.probeDeadlineMs, supportedSchemaVersion } = options;
  const commitWatch = createCommitWatch({ now, failures: options.commitFailures });
  let connection: SoleConnection | undefined;
  let checks = 0;
  let hadState = false;
  let closed = false;
  let lastFault = '';

  function drop(): void {
    connection?.cut();
    connection = undefined;
  }

  async function connect(): Promise<SoleConnection> {
    const opened = createSoleConnection(postgres, {
      applicationName,
      hosts: options.hosts,
      // A dead host leaves time for the next one within the same check.
      connectTimeoutMs: deadlineMs,
      // The next check reconnects. Reconnecting at once would flood a server that cuts every connection.
      onLost: () => {
        if (connection === opened) drop();
      },
    });
    connection = opened;
    checks = 0;
    await opened.connect();
    return opened;
  }

  async function readServing(opened: SoleConnection): Promise<ServingVerdict> {
    const facts = await readServingFacts(opened, postgres.stateKey);
    const serving = judgeServing(facts, { supportedSchemaVersion, hadState });
    // The node creates the state anew only together with the schema: a new database has replaced the one it knew.
    hadState = serving.schema !== 'behind' && (hadState || facts.state === 'present');
    return serving.reason === undefined ? { ...serving, ...commitWatch.check(facts.waiting) } : serving;
  }

  /**
   * Drops the connection if the next check needs a new one. After a failover the address may lead to another server. A
   * setting of the database or the role, such as `default_transaction_read_only`, applies only to new sessions.
   */
  function refresh({ reason }: ServingVerdict): void {
    checks += 1;
    if (reason === 'db_read_only' || checks >= limits.maxProbeConnectionChecks) drop();
  }

  async function check(): Promise<CheckOutcome> {
    const startedMs = now();
    const elapsedMs = (): number => Math.round((now() - startedMs) * 10) / 10;
    const deadline = createDeadline(deadlineMs);
    let connected = connection !== undefined;
    try {
      const opened = connection ?? (await Promise.race([connect(), deadline.passed]));
      connected = true;
      const serving = await Promise.race([readServing(opened), deadline.passed]);
      refresh(serving);
      return { kind: 'answered', latencyMs: elapsedMs(), serving };
    } catch (error) {
      drop();
      lastFault = describeFault(error);
      const refusal = refusals[faultOf(error)];
      if (refusal !== undefined)
        return {
          kind: 'answered',
          latencyMs: elapsedMs(),
          serving: { ...refusal, schema: 'unknown', detail: lastFault },
        };
      if (!closed) log.debug({ err: originalOf(error) }, `a check of the database failed: ${lastFault}`);
      return { kind: error instanceof DeadlineError && connected ? 'slow' : 'unreachable' };
    } finally {
      deadline.clear();
    }
  }

  return {
    check,
    /** Describes why the last bad check failed. */
    lastFault: () => lastFault,
    /** Cuts the connection. A check in flight fails. */
    close: () => {
      closed = true;
      drop();
    },
  };
}

/** Maps the faults of a server that answers and refuses the connection: it lacks a right, or no server accepts writes. */
const refusals: Partial<Record<Fault, Pick<ServingVerdict, 'database' | 'reason'>>> = {
  forbidden: { database: 'forbidden', reason: 'db_forbidden' },
  read_only: { database: 'read_only', reason: 'db_read_only' },
};

class DeadlineError extends Error {}

function createDeadline(afterMs: number): { passed: Promise<never>; clear(): void } {
  let timer: NodeJS.Timeout | undefined;
  const passed = new Promise<never>((_, reject) => {
    const fail = () => reject(new DeadlineError(`no answer within ${afterMs} ms`));
    // If the process was busy, the answer may be waiting in the socket. In each turn of the event loop, timers run
    // before I/O, and immediates after it.
    timer = setTimeout(() => setImmediate(() => setImmediate(fail)), afterMs);
  });
  passed.catch(() => undefined);
  return { passed, clear: () => clearTimeout(timer) };
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
