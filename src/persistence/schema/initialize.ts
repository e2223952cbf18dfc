import { setTimeout as sleep } from 'node:timers/promises';
import type { Pool } from 'pg';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import { describeFault, toLoomError } from '../connection/faults.ts';
import { ensureState } from '../state/ensure.ts';
import { assertLedgerMatches, migrate } from './migrate.ts';
import type { Migration } from './migrations.ts';
import { CURRENT_SCHEMA_VERSION, readSchemaStatus } from './schema.ts';

export interface InitializerOptions {
  pool: Pool;
  migrations: Migration[];
  stateKey: string;
  /** `manual`: waits until somebody else has migrated. */
  migrate: 'auto' | 'manual';
  log: Log;
  onDone(): void;
}

export interface Initializer {
  /** Begins, unless it is under way. */
  start(): void;
  /** Whether the schema serves this node and the state's row exists. */
  done(): boolean;
  close(): Promise<void>;
}

/** Brings the database to where a node can serve from it, trying again for ever: a database may come up after its nodes. */
export function createInitializer(options: InitializerOptions): Initializer {
  const closed = new AbortController();
  let done = false;
  let running: Promise<void> | undefined;

  async function run(): Promise<void> {
    done = false;
    for (let delayMs: number = limits.minStartBackoffMs; !closed.signal.aborted; delayMs = nextDelay(delayMs)) {
      if (await attempt(options)) {
        done = true;
        options.onDone();
        return;
      }
      await sleep(delayMs, undefined, { signal: closed.signal }).catch(() => undefined);
    }
  }

  return {
    start: () => {
      if (closed.signal.aborted) return;
      running ??= run().finally(() => {
        running = undefined;
      });
    },
    done: () => done,
    close: async () => {
      closed.abort();
      await running;
    },
  };
}

function nextDelay(delayMs: number): number {
  return Math.min(delayMs * 2, limits.maxStartBackoffMs);
}

async function attempt({ pool, migrations, stateKey, migrate: mode, log }: InitializerOptions): Promise<boolean> {
  try {
    if (mode === 'auto') {
      for (const name of await migrate(pool, migrations)) log.info({ migration: name }, 'migrated');
    }
    const status = await readSchemaStatus(pool, migrations);
    assertLedgerMatches(status, migrations);
    const isBehind = (status.schemaVersion ?? 0) < CURRENT_SCHEMA_VERSION;
    const isAhead = (status.compatibleFrom ?? 0) > CURRENT_SCHEMA_VERSION;
    // The probe says so on /ready; to a database of a breaking schema nothing is written.
    if (isBehind || isAhead) return false;
    await ensureState(pool, stateKey);
    return true;
  } catch (error) {
    const known = toLoomError(error);
    if (known.code === 'database_unavailable') log.debug({ err: error }, `no database yet: ${describeFault(error)}`);
    else log.error({ err: error }, `the database cannot be used: ${known.message}`);
    return false;
  }
}
