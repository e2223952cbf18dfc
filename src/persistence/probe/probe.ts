// persistence/probe/ watches the database for `/ready` over its own connection. It imports config, domain, limits, log
// and, of persistence, connection/ and schema/. It must not know a state.

import { setTimeout as sleep } from 'node:timers/promises';
import type { PostgresConfig } from '../../config/config.ts';
import type { ProbeVerdict } from '../../domain/probe.ts';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import type { Queries } from '../connection/connection.ts';
import { describeFault, originalOf, sqlStateOf } from '../connection/faults.ts';
import type { Hosts } from '../connection/hosts.ts';
import { createSoleConnection, type SoleConnection } from '../connection/sole-connection.ts';
import { type CheckOutcome, nextProbeState, probePauseMs, startingState } from './verdict.ts';

export interface ProbeOptions {
  postgres: PostgresConfig;
  /** The servers, in an order that the pool shares. */
  hosts?: Hosts;
  log: Log;
  applicationName: string;
  /** Schema version that this node supports. */
  supportedSchemaVersion: number;
  intervalMs?: number;
  /** Deadline of one check, including the time to connect. */
  deadlineMs?: number;
  badChecks?: number;
  /** A monotonic clock, in milliseconds. */
  now?: () => number;
  /** Called after `ok` or `reason` has changed. */
  onChange?: (verdict: ProbeVerdict) => void;
}

export type Probe = ReturnType<typeof createProbe>;

/**
 * Watches the database over its own connection, so that neither a full pool nor a silent server delays `/ready`. Checks
 * run one after another, each with a deadline. While they fail, the pauses between them grow.
 */
export function createProbe(options: ProbeOptions) {
  const { intervalMs = limits.probeIntervalMs, badChecks = limits.probeBadChecks, supportedSchemaVersion } = options;
  const rules = { badChecks, supportedSchemaVersion };
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
      state = nextProbeState(state, outcome, rules);
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
  if (before.ok === after.ok && before.reason === after.reason) return;
  if (after.ok) log.info({ latencyMs: after.latencyMs }, 'the database is ready');
  else {
    // The node sets up a new database next, so this needs no warning.
    const isNew = before.reason === 'starting' && after.reason === 'schema_behind';
    const reason = after.database === 'ok' ? after.reason : lastFault;
    log[isNew ? 'info' : 'warn']({ reason: after.reason }, `the database is not ready: ${reason}`);
  }
  onChange?.(after);
}

function createChecker({ postgres, applicationName, log, ...options }: ProbeOptions) {
  const { now = () => performance.now(), deadlineMs = limits.probeDeadlineMs } = options;
  let connection: SoleConnection | undefined;
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
    await opened.connect();
    return opened;
  }

  async function check(): Promise<CheckOutcome> {
    const startedMs = now();
    const deadline = createDeadline(deadlineMs);
    let connected = connection !== undefined;
    try {
      const opened = connection ?? (await Promise.race([connect(), deadline.passed]));
      connected = true;
      const versions = await Promise.race([readSchemaVersions(opened), deadline.passed]);
      return { kind: 'answered', latencyMs: Math.round((now() - startedMs) * 10) / 10, ...versions };
    } catch (error) {
      drop();
      lastFault = describeFault(error);
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

const UNDEFINED_TABLE = '42P01';

async function readSchemaVersions(queries: Queries) {
  const text = `select key, value from loom_meta where key in ('schema_version', 'schema_compatible_from')`;
  const rows = await queries.rows<{ key: string; value: unknown }>(text).catch((error: unknown) => {
    // The database answers, but has no tables of LOOM: all migrations are pending.
    if (sqlStateOf(error) === UNDEFINED_TABLE) return [];
    throw error;
  });
  const values = new Map(rows.map(({ key, value }) => [key, typeof value === 'number' ? value : null]));
  return {
    schemaVersion: values.get('schema_version') ?? null,
    compatibleFrom: values.get('schema_compatible_from') ?? null,
  };
}

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
