import { readFileSync } from 'node:fs';
import { parseKeepPolicy } from '../../../src/backup/stored/retention.ts';
import { parseSchedule } from '../../../src/backup/stored/schedule.ts';
import { limits } from '../../../src/limits.ts';
import { createLogger } from '../../../src/log.ts';
import { openObjectStore } from '../../../src/object-store/object-store.ts';
import { createOperations } from '../../../src/persistence/activity/operations.ts';
import { openDatabase } from '../../../src/persistence/connection/database.ts';
import { createRunLedger } from '../../../src/persistence/runs/ledger.ts';
import { createStore } from '../../../src/persistence/store.ts';
import { createStoredBackups } from '../../../src/runs/runs.ts';
import type { RunProcessSettings } from './process-settings.ts';
import { createStops, withStops } from './stops.ts';

/**
 * Runs the scheduler of a node in a process of its own, which a test may kill. Its clock is the number in a file, so
 * the test decides when the next slot comes. With an order, it only carries that out.
 */
const settings = JSON.parse(process.argv[2] ?? '{}') as RunProcessSettings;
const { url, stateKey, clockFile, leaseMs, keep, order } = settings;

const log = createLogger({ level: 'info' });
const database = openDatabase(
  {
    url,
    stateKey,
    poolMax: 4,
    streamsMax: 4,
    idleTimeoutMs: 10_000,
    connectTimeoutMs: 5_000,
    ssl: false,
  },
  { log, applicationName: 'loom-run-process' },
);
const store = createStore({
  database,
  stateKey,
  maxDocumentBytes: limits.maxDocumentBytes,
  migrations: [],
  operations: createOperations(),
});
const schedule = parseSchedule('* * * * * *');
const ledger = createRunLedger(database, { stateKey, node: `${process.pid}-${Date.now()}`, leaseMs, backoffMs: 50 });
const parts = {
  ledger: { ...ledger, readClock: async () => new Date(Number(readFileSync(clockFile, 'utf8'))) },
  store: openObjectStore(settings.store),
  verbs: store,
};
const report = (line: string): void => void process.stdout.write(`${line}\n`);
const runs = createStoredBackups({
  ...(order === undefined ? parts : withStops(parts, createStops(settings.stopAt, report))),
  stateKey,
  schedule,
  drillSchedule: schedule,
  policy: parseKeepPolicy(`last=${keep}`),
  keys: { recipients: [], identities: [] },
  log,
  timing: { tickMs: 50, maxJitterMs: 20, sweepIntervalMs: 500, renewLeaseMs: leaseMs / 5, leaseMs },
});
if (order === undefined) runs.start();
else {
  const { verb, name = '' } = order;
  if (verb === 'remove') await runs.remove(name);
  else await (await (verb === 'take' ? runs.take() : runs.drill(name))).ended;
  report('done');
}
