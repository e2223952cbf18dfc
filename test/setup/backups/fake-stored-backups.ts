import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import type {
  BackupRun,
  StartedRun,
  StoredBackup,
  StoredBackups,
  StoredBackupsObservation,
} from '../../../src/domain/backup-run.ts';
import { LoomError } from '../../../src/errors.ts';

/** Name of the backup and id of the run that the examples of docs/openapi.json name. */
export const STORED_NAME = 'loom-default-20261125T225728.451Z-r17.json.gz';
export const RUN_ID = '01a214ed-a53e-7cec-a3cc-fe25a65bce35';

const AT = '2026-11-25T22:57:28.451Z';

/** Text of the only backup. */
const TEXT = JSON.stringify({
  loom_backup_version: 1,
  state_key: 'default',
  exported_at: AT,
  state: { greeting: { text: 'hello' } },
});

export interface FakeStoredBackups extends StoredBackups {
  /** Ends the run that `take` or `drill` has begun. */
  endRun(changes?: Partial<BackupRun>): void;
  /** Resolves when the next run begins. */
  nextRun(): Promise<void>;
  observation: StoredBackupsObservation;
  /** Returns how many of the bodies that `open` returned are still open. */
  openBodies(): number;
}

/**
 * Creates stored backups in memory, for tests of the routes alone: one proven backup and a newer one that cannot be
 * deleted. With `endsRuns`, each run has ended by the time that it is returned.
 */
export function createFakeStoredBackups({ endsRuns = true } = {}): FakeStoredBackups {
  const catalogue: StoredBackup[] = [backupOf(STORED_NAME.replace('25T', '26T')), backupOf(STORED_NAME)];
  const runs: BackupRun[] = [{ ...runOf('scheduled', STORED_NAME), id: RUN_ID }];
  let end: ((run: BackupRun) => void) | undefined;
  let begun = (): void => undefined;
  const bodies: Readable[] = [];

  const find = (name: string): StoredBackup => {
    const found = catalogue.find((one) => one.name === name);
    if (found === undefined) throw new LoomError('stored_backup_not_found', `No stored backup is named "${name}".`);
    return found;
  };
  const start = (kind: BackupRun['kind'], name: string | null): StartedRun => {
    if (end !== undefined) {
      throw new LoomError('backup_running', 'This node is already running one.', { retryAfterSeconds: 5 });
    }
    const ended = { ...runOf(kind, name), id: randomUUID() };
    const run: BackupRun = { ...ended, outcome: 'running', ended_at: null, restore_seconds: null };
    runs.unshift(ended);
    begun();
    if (endsRuns) return { run, ended: Promise.resolve(ended) };
    return {
      run,
      ended: new Promise((resolve) => {
        end = resolve;
      }),
    };
  };

  return {
    store: 'file:///var/lib/loom/backups',
    list: async ({ limit, before }) => {
      const at = catalogue.findIndex((one) => one.name === before);
      if (before !== undefined && at < 0) throw new LoomError('invalid_parameter', 'Begin the list again.');
      const from = at + 1;
      return catalogue.slice(from, from + limit);
    },
    listRuns: async ({ limit }) => runs.slice(0, limit),
    readRun: async (id) => runs.find((run) => run.id === id),
    take: async () => start('manual', null),
    drill: async (name) => start('drill', find(name).name),
    open: async (name) => {
      const backup = find(name);
      const body = Readable.from([Buffer.from(TEXT)]);
      bodies.push(body);
      return { backup, body };
    },
    openBodies: () => bodies.filter((body) => !body.destroyed).length,
    openPlain: async (name) => Readable.from(find(name) && [Buffer.from(TEXT)]),
    remove: async (name) => {
      if (catalogue.indexOf(find(name)) === 0)
        throw new LoomError('stored_backup_kept', `${name} is the newest proven backup.`);
      catalogue.splice(catalogue.indexOf(find(name)), 1);
    },
    observe: async function observe() {
      return this.observation;
    },
    nextRun: () =>
      new Promise((resolve) => {
        begun = resolve;
      }),
    endRun: (changes = {}) => {
      const [run] = runs;
      if (run !== undefined) end?.(Object.assign(run, changes));
      end = undefined;
    },
    observation: {
      store: 'file:///var/lib/loom/backups',
      storeFault: null,
      storeIsUp: true,
      nextSlotAt: '2026-11-26T23:00:00Z',
      nextDrillAt: '2026-11-27T03:00:00Z',
      lastSuccessAt: AT,
      lastProvenAt: AT,
      lastRestoreSeconds: 1.5,
      lastBytes: Buffer.byteLength(TEXT),
      faultyBackups: 0,
      lastFailure: null,
      running: [],
      counts: [{ kind: 'scheduled', outcome: 'proven', count: 3 }],
    },
  };
}

function backupOf(name: string): StoredBackup {
  return {
    name,
    kind: 'scheduled',
    taken_at: AT,
    revision: 17,
    bytes: Buffer.byteLength(TEXT),
    sha256: 'a'.repeat(64),
    encrypted: name.endsWith('.age'),
    outcome: 'proven',
    verified_at: AT,
    proven_at: AT,
    restore_seconds: 1.5,
    fault: null,
  };
}

function runOf(kind: BackupRun['kind'], name: string | null): Omit<BackupRun, 'id'> {
  return {
    kind,
    slot: AT,
    attempt: 1,
    node: 'test:1',
    outcome: 'proven',
    started_at: AT,
    ended_at: AT,
    code: null,
    detail: null,
    retry_at: null,
    name,
    restore_seconds: 1.5,
  };
}
