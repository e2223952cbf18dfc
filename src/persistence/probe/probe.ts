import pg, { type Client } from 'pg';
import type { PostgresConfig } from '../../config/config.ts';
import type { ProbeVerdict } from '../../domain/probe.ts';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import { describeFault, sqlStateOf } from '../connection/faults.ts';
import { connectionOptions } from '../connection/options.ts';
import { type CheckOutcome, nextProbeState, probePauseMs, startingState } from './verdict.ts';

export interface ProbeOptions {
  postgres: PostgresConfig;
  log: Log;
  applicationName: string;
  /** The schema version that this node's code is written for. */
  supportedSchemaVersion: number;
  intervalMs?: number;
  /** For one whole check: connecting, if need be, and asking. */
  deadlineMs?: number;
  badChecks?: number;
  /** A clock that only goes forward, in milliseconds. */
  now?: () => number;
  /** Called after `ok` or `reason` has changed. */
  onChange?: (verdict: ProbeVerdict) => void;
}

export interface Probe {
  /** The last verdict; never waits. */
  verdict(): ProbeVerdict;
  start(): void;
  /** Has the next check made at once instead of after the pause, e.g. when migrations have just been applied. */
  wake(): void;
  close(): Promise<void>;
}

/**
 * Watches the database over one connection of its own, so that neither a full pool nor a silent server delays the answer
 * to a probe. Checks come one after the other, each with a deadline; it never gives up, and never connects more often
 * than once a back-off.
 */
export function createProbe(options: ProbeOptions): Probe {
  const { log, now = () => performance.now(), onChange } = options;
  const { intervalMs = limits.probeIntervalMs, deadlineMs = limits.probeDeadlineMs } = options;
  const rules = {
    badChecks: options.badChecks ?? limits.probeBadChecks,
    supportedSchemaVersion: options.supportedSchemaVersion,
  };
  const pauses = { intervalMs, minBackoffMs: limits.minProbeBackoffMs, maxBackoffMs: limits.maxProbeBackoffMs };
  const pause = createPause();
  let state = startingState;
  let client: Client | undefined;
  let running: Promise<void> | undefined;
  let closed = false;
  let lastFault = '';

  return {
    verdict: () => state.verdict,
    start: () => {
      if (!closed) running ??= run();
    },
    wake: pause.wake,
    close: async () => {
      closed = true;
      pause.wake();
      drop();
      await running;
    },
  };

  async function run(): Promise<void> {
    while (!closed) {
      const outcome = await check();
      if (closed) break;
      settle(outcome);
      await pause.wait(probePauseMs(state.badInARow, pauses));
    }
    drop();
  }

  function settle(outcome: CheckOutcome): void {
    const before = state.verdict;
    state = nextProbeState(state, outcome, rules);
    const after = state.verdict;
    if (before.ok === after.ok && before.reason === after.reason) return;
    if (after.ok) log.info({ latencyMs: after.latencyMs }, 'the database is ready');
    else {
      // A new database, which the node that finds it is about to set up.
      const ordinary = before.reason === 'starting' && after.reason === 'schema_behind';
      log[ordinary ? 'info' : 'warn'](
        { reason: after.reason },
        `the database is not ready: ${after.database === 'ok' ? after.reason : lastFault}`,
      );
    }
    onChange?.(after);
  }

  async function check(): Promise<CheckOutcome> {
    const startedAt = now();
    const deadline = createDeadline(deadlineMs);
    let connected = client !== undefined;
    try {
      if (client === undefined) await Promise.race([connect(), deadline.passed]);
      connected = true;
      const versions = await Promise.race([ask(client), deadline.passed]);
      return { kind: 'answered', latencyMs: Math.round((now() - startedAt) * 10) / 10, ...versions };
    } catch (error) {
      drop();
      lastFault = describeFault(error);
      if (!closed) log.debug({ err: error }, `a check of the database failed: ${lastFault}`);
      return { kind: error instanceof DeadlineError && connected ? 'slow' : 'unreachable' };
    } finally {
      deadline.clear();
    }
  }

  async function connect(): Promise<void> {
    const opened = new pg.Client(connectionOptions(options.postgres, options.applicationName));
    client = opened;
    // Without a listener, a connection that breaks between two checks would end the process. The next check connects
    // again; not sooner, because a server that cuts every connection must not be stormed.
    opened.on('error', () => {
      if (client === opened) drop();
    });
    await opened.connect();
  }

  /** The socket is destroyed: a polite end would wait for a server that may be frozen. */
  function drop(): void {
    client?.connection.stream.destroy();
    client = undefined;
  }
}

interface SchemaVersions {
  schemaVersion: number | null;
  compatibleFrom: number | null;
}

const UNDEFINED_TABLE = '42P01';

async function ask(client: Client | undefined): Promise<SchemaVersions> {
  if (client === undefined) throw new Error('the connection broke');
  try {
    const { rows } = await client.query<{ key: string; value: unknown }>(
      `select key, value from loom_meta where key in ('schema_version', 'schema_compatible_from')`,
    );
    const values = new Map(rows.map(({ key, value }) => [key, typeof value === 'number' ? value : null]));
    return {
      schemaVersion: values.get('schema_version') ?? null,
      compatibleFrom: values.get('schema_compatible_from') ?? null,
    };
  } catch (error) {
    // A database without LOOM's tables answers well: it needs all migrations.
    if (sqlStateOf(error) === UNDEFINED_TABLE) return { schemaVersion: null, compatibleFrom: null };
    throw error;
  }
}

class DeadlineError extends Error {}

function createDeadline(afterMs: number): { passed: Promise<never>; clear(): void } {
  let timer: NodeJS.Timeout | undefined;
  const passed = new Promise<never>((_, reject) => {
    const fail = () => reject(new DeadlineError(`no answer within ${afterMs} ms`));
    // When the process itself was busy, the answer may be waiting in the socket: timers come before input and output in
    // a turn of the event loop, and an immediate after them.
    timer = setTimeout(() => setImmediate(() => setImmediate(fail)), afterMs);
  });
  passed.catch(() => undefined);
  return { passed, clear: () => clearTimeout(timer) };
}

/** A pause that can be cut short. A wake while nobody waits counts for the next wait. */
function createPause(): { wait(pauseMs: number): Promise<void>; wake(): void } {
  let woken = false;
  let end: (() => void) | undefined;
  return {
    wait: async (pauseMs) => {
      let timer: NodeJS.Timeout | undefined;
      if (!woken)
        await new Promise<void>((resolve) => {
          end = resolve;
          timer = setTimeout(resolve, pauseMs);
        });
      clearTimeout(timer);
      end = undefined;
      woken = false;
    },
    wake: () => {
      woken = true;
      end?.();
    },
  };
}
