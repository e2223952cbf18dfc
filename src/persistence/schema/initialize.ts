import { setTimeout as sleep } from 'node:timers/promises';
import { limits } from '../../limits.ts';
import type { Log } from '../../log.ts';
import type { Database } from '../connection/database.ts';
import { describeFault, type Fault, faultOf, originalOf, toDatabaseError } from '../connection/faults.ts';
import { ensureState } from '../state/state-row.ts';
import { describeRedefinition, findRedefinitions, pinSearchPath } from './definitions.ts';
import { assertLedgerMatches, migrate } from './migrate.ts';
import type { Migration } from './migrations.ts';
import { CURRENT_SCHEMA_VERSION, readSchemaStatus } from './schema.ts';
import { judgeSchema } from './serves.ts';
import { readServingFacts } from './serving-facts.ts';

export interface InitializerOptions {
  database: Database;
  migrations: Migration[];
  stateKey: string;
  /** `manual` waits for an operator to migrate. */
  migrate: 'auto' | 'manual';
  log: Log;
  onDone(): void;
}

/** Migrates the database and creates the state's row. Retries, because a database may start after its nodes. */
export function createInitializer(options: InitializerOptions) {
  const closed = new AbortController();
  const reporter = createReporter(options.log);
  let done = false;
  let running: Promise<void> | undefined;

  async function run(): Promise<void> {
    done = false;
    let delayMs: number = limits.minStartBackoffMs;
    while (!closed.signal.aborted) {
      if (await attempt(options, reporter)) {
        done = true;
        reporter.clear();
        options.onDone();
        return;
      }
      await sleep(delayMs, undefined, { signal: closed.signal }).catch(() => undefined);
      delayMs = Math.min(delayMs * 2, limits.maxStartBackoffMs);
    }
  }

  return {
    /** Starts the initialization unless it is already running. */
    start: (): void => {
      if (closed.signal.aborted) return;
      running ??= run().finally(() => {
        running = undefined;
      });
    },
    /** Describes why the last attempt failed; undefined without a fault that an operator must mend. */
    fault: () => reporter.last(),
    /** Returns whether the schema serves this node and the state's row exists. */
    done: () => done,
    close: async (): Promise<void> => {
      closed.abort();
      await running;
    },
  };
}

async function attempt(
  { database, migrations, stateKey, migrate: mode, log }: InitializerOptions,
  reporter: Reporter,
): Promise<boolean> {
  try {
    const { readOnly } = await readServingFacts(database, stateKey);
    if (mode === 'auto' && readOnly === null) {
      for (const name of await migrate(database, migrations)) log.info({ migration: name }, 'migrated');
    }
    const status = await readSchemaStatus(database, migrations);
    assertLedgerMatches(status, migrations);
    // The probe reports the reason on /ready. A node never writes to a schema that does not serve it.
    if (judgeSchema(status.schemaVersion, status.compatibleFrom, CURRENT_SCHEMA_VERSION) !== 'ok') return false;
    if (readOnly === null) await ensureState(database, stateKey);
    // On a read-only server, and when documents remain without the state's row, no row was created.
    if ((await readServingFacts(database, stateKey)).state !== 'present') return false;
    await warnOfRestores(database, log);
    await warnOfRedefinitions(database, log);
    return true;
  } catch (error) {
    reporter.report(error);
    return false;
  }
}

/** Warns if every restore would fail. It is no reason to stay unready, because a node serves without the right. */
async function warnOfRestores(database: Database, log: Log): Promise<void> {
  const row = await database.firstRow<{ permitted: boolean; grant: string }>(
    `select has_database_privilege(current_database(), 'temporary') as permitted,
            format('GRANT TEMPORARY ON DATABASE %I TO %I;', current_database(), current_user) as grant`,
  );
  if (row?.permitted === false)
    log.warn(`restores will fail, because the database role lacks TEMPORARY. Run as the owner: ${row.grant}`);
}

/**
 * Warns of tables, functions and triggers that are not as the migrations created them. A node serves nevertheless:
 * whoever changed them could otherwise stop all nodes, and a verification reports them, too.
 */
async function warnOfRedefinitions(database: Database, log: Log): Promise<void> {
  const found = await database.transaction('read', async (connection) => {
    const shadowed = await pinSearchPath(connection.within());
    return [...shadowed, ...(await findRedefinitions(connection.within()))];
  });
  for (const one of found.slice(0, limits.maxListedMismatches))
    log.warn(`somebody has changed the schema of LOOM: ${describeRedefinition(one)} See the threat model in the docs.`);
}

/** Contains the faults that stay until an operator acts. Waiting for the database does not help. */
const needsOperator: ReadonlySet<Fault> = new Set(['forbidden', 'schema_damaged']);

type Reporter = ReturnType<typeof createReporter>;

/** Reports the fault of an attempt. Attempts repeat every few seconds, so only a change of the fault is an error. */
function createReporter(log: Log) {
  let last: string | undefined;
  return {
    last: () => last,
    clear: (): void => {
      last = undefined;
    },
    report: (error: unknown): void => {
      const known = toDatabaseError(error);
      if (known.code === 'database_unavailable' && !needsOperator.has(faultOf(error))) {
        log.debug({ err: originalOf(error) }, `no database yet: ${describeFault(error)}`);
        return;
      }
      const cause = known.code === 'internal' ? describeFault(error) : known.message;
      log[cause === last ? 'debug' : 'error']({ err: error }, `the database cannot be used: ${cause}`);
      last = cause;
    },
  };
}
