import { isDeepStrictEqual } from 'node:util';
import pg from 'pg';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { ClaimedRun, RunLedger } from '../../../src/domain/backup-run.ts';
import { createQueries } from '../../../src/persistence/connection/connection.ts';
import { createRunLedger } from '../../../src/persistence/runs/ledger.ts';
import { depth, seededRandom, seedLabel } from '../../setup/depth.ts';
import { fault, openLedger, passTime, required, slotAt, takeBackup, written } from '../../setup/runs/ledger.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

// Two connections carry out each pair of verbs: the second verb begins before the first has committed. What they answer
// and leave must be as if one had been called after the other.

const numbersForInt8 = new pg.TypeOverrides();
numbersForInt8.setTypeParser(pg.types.builtins.INT8, Number);

interface Session {
  client: pg.Client;
  pid: number;
  ledger: RunLedger;
}

let database: TestDatabase;
let sessions: [Session, Session];
/** A run of `a` that has written its backup, and its drill. Both have a valid lease. */
let writing: ClaimedRun;
let drilling: ClaimedRun;

beforeAll(async () => {
  database = await createTestDatabase();
  sessions = [await openSession('a'), await openSession('a')];
  await fill();
});
afterAll(async () => {
  for (const { client } of sessions) await client.end();
  await database.drop();
});

async function openSession(node: string): Promise<Session> {
  const client = new pg.Client({ connectionString: database.url, types: numbersForInt8 });
  await client.connect();
  const { rows } = await client.query<{ pid: number }>('select pg_backend_pid() as pid');
  const queries = Object.assign(database.door(), {});
  const ledger = createRunLedger(
    { ...queries, ...createQueries(client) },
    { stateKey: 'default', node, leaseMs: 600_000 },
  );
  return { client, pid: required(rows[0]).pid, ledger };
}

/** Makes backups in every condition, and keeps a copy of the table. */
async function fill(): Promise<void> {
  const a = openLedger(database, 'a', { leaseMs: 600_000 });
  const dead = openLedger(database, 'dead', { leaseMs: 600_000 });
  await takeBackup(a, 0);
  for (const hour of [1, 2, 3]) await takeBackup(a, hour);
  await a.beginDeletion('backup-0');
  await takeBackup(a, 4, 'failed');
  await takeBackup(dead, 5, 'named');
  await dead.claimSlot('drill', slotAt(5), 'backup-2');
  await passTime(database.pool, 600_000);
  writing = await takeBackup(a, 6, 'written');
  drilling = required(await a.claimSlot('drill', slotAt(6), 'backup-1'));
  await database.pool.query('create table kept as select * from loom_backup_run');
}

async function reset(): Promise<void> {
  await database.pool.query(
    'truncate loom_backup_run; insert into loom_backup_run overriding system value select * from kept',
  );
}

/** What two calls returned, and the rows that they left, without ids and times. */
type Outcome = [first: string, second: string, rows: string];

async function readRuns(): Promise<string> {
  const { rows } = await database.pool.query(
    `select kind, slot, attempt, node, outcome, code, detail, name, restore_seconds, bytes, fault_code, retry_at is null as ended,
            lease_until > clock_timestamp() as valid, drill_until > clock_timestamp() as drilled, proven_at is null as unproven,
            verified_at is null as unverified, deletion_begun_at is null as stays, deleted_at is null as stored
       from loom_backup_run order by kind, slot, attempt`,
  );
  return JSON.stringify(rows, null, 1);
}

const NOTHING = describeAnswer(undefined);

function describeAnswer(answer: unknown): string {
  return JSON.stringify(
    typeof answer === 'object' && answer !== null ? { ...answer, id: 'any' } : (answer ?? 'nothing'),
  );
}

const damaged = { code: 'stored_backup_damaged', detail: 'Other bytes.' };

const verbs: Record<string, (ledger: RunLedger) => Promise<unknown>> = {
  'claims a slot': (ledger) => ledger.claimSlot('scheduled', slotAt(9)),
  'claims a drill of 1': (ledger) => ledger.claimSlot('drill', slotAt(9), 'backup-1'),
  'claims a drill of 2': (ledger) => ledger.claimSlot('drill', slotAt(9), 'backup-2'),
  'claims a drill of 3': (ledger) => ledger.claimSlot('drill', slotAt(10), 'backup-3'),
  'takes a run over': (ledger) => ledger.claimRetry(),
  'renews a run': (ledger) => ledger.renew(writing),
  'releases a run': (ledger) => ledger.release(writing),
  'writes a backup': (ledger) => ledger.recordWritten(writing, { ...written, bytes: 7 }),
  'proves a run': (ledger) => ledger.recordProven(writing, { restoreSeconds: 2 }),
  'fails a run': (ledger) => ledger.recordFailed(writing, { ...fault, withdraws: true }),
  'renews a drill': (ledger) => ledger.renew(drilling),
  'proves a drill': (ledger) => ledger.recordProven(drilling, { restoreSeconds: 3 }),
  'verifies a drill': (ledger) => ledger.recordVerified(drilling, 'No key.'),
  'withdraws by a drill': (ledger) => ledger.recordFailed(drilling, { ...damaged, withdraws: true }),
  'deletes 0 again': (ledger) => ledger.beginDeletion('backup-0'),
  'deletes 1': (ledger) => ledger.beginDeletion('backup-1'),
  'deletes 2': (ledger) => ledger.beginDeletion('backup-2'),
  'deletes 3': (ledger) => ledger.beginDeletion('backup-3'),
  'deletes 4': (ledger) => ledger.beginDeletion('backup-4'),
  'deletes 5': (ledger) => ledger.beginDeletion('backup-5'),
  'deletes 6': (ledger) => ledger.beginDeletion('backup-6'),
  'cancels 0': (ledger) => ledger.cancelDeletion('backup-0', damaged),
  'damages 3': (ledger) => ledger.cancelDeletion('backup-3', damaged),
  'records 0 as deleted': (ledger) => ledger.recordDeleted('backup-0'),
  'records 5 as never written': (ledger) => ledger.recordNeverWritten('backup-5'),
};

type Verb = keyof typeof verbs;

async function call({ ledger }: Session, verb: Verb): Promise<string> {
  return describeAnswer(await required(verbs[verb])(ledger));
}

async function oneAfterTheOther(first: Verb, second: Verb): Promise<Outcome> {
  await reset();
  return [await call(sessions[0], first), await call(sessions[0], second), await readRuns()];
}

async function alone(verb: Verb): Promise<{ answer: string; rows: string }> {
  await reset();
  return { answer: await call(sessions[0], verb), rows: await readRuns() };
}

/** Calls the second verb while the first has not committed, and then commits the first or rolls it back. */
async function together(first: Verb, second: Verb, end: 'commit' | 'rollback'): Promise<Outcome> {
  await reset();
  const [one, two] = sessions;
  await one.client.query('begin');
  const answer = await call(one, first);
  let isDone = false;
  const other = call(two, second).finally(() => {
    isDone = true;
  });
  await expect.poll(async () => isDone || (await isBlocked(two.pid)), { interval: 1 }).toBe(true);
  await one.client.query(end);
  return [answer, await other, await readRuns()];
}

async function isBlocked(pid: number): Promise<boolean> {
  const { rows } = await database.pool.query('select cardinality(pg_blocking_pids($1)) > 0 as blocked', [pid]);
  return rows[0]?.blocked === true;
}

function allPairs(): [Verb, Verb][] {
  const names = Object.keys(verbs);
  return names.flatMap((first) => names.map((second): [Verb, Verb] => [first, second]));
}

/**
 * Leaves out what may differ. A claim of a drill that loses its slot leaves its mark, which keeps its backup for the
 * time of a lease. Of two nodes that take runs over, the second takes the next one, although the first may roll back.
 */
function compared([one, other, rows]: Outcome, first: Verb, second: Verb): Outcome {
  const mayLeaveMark = [first, second].every((verb) => verb.startsWith('claims a drill'));
  if (first === 'takes a run over' && second === first) return [one, other, ''];
  return [one, other, mayLeaveMark ? rows.replaceAll(/"drilled": \w+/g, '') : rows];
}

async function allowedAfter(first: Verb, second: Verb, end: 'commit' | 'rollback'): Promise<Outcome[]> {
  // A run whose row is locked is left for the next look.
  const mayFindNothing = second === 'takes a run over';
  const before = await alone(first);
  if (end === 'rollback') {
    const after = await alone(second);
    await reset();
    const nothing: Outcome[] = mayFindNothing ? [[before.answer, NOTHING, await readRuns()]] : [];
    const next: Outcome[] = mayFindNothing && first === second ? [await oneAfterTheOther(first, second)] : [];
    return [[before.answer, after.answer, after.rows], ...nothing, ...next];
  }
  const [secondAnswer, firstAnswer, rows] = await oneAfterTheOther(second, first);
  const nothing: Outcome[] = mayFindNothing ? [[before.answer, NOTHING, before.rows]] : [];
  return [await oneAfterTheOther(first, second), [firstAnswer, secondAnswer, rows], ...nothing];
}

it('any two verbs at the same time answer and leave what one after the other would', { timeout: 600_000 }, async () => {
  const pairs = allPairs();
  const random = seededRandom('interleavings');
  const chosen = depth === 'full' ? pairs : Array.from({ length: 8 }, () => random.pick(pairs));
  const wrong: unknown[] = [];
  for (const [first, second] of chosen) {
    for (const end of ['commit', 'rollback'] as const) {
      const allowed = await allowedAfter(first, second, end);
      const found = await together(first, second, end);
      if (!allowed.some((one) => isDeepStrictEqual(compared(one, first, second), compared(found, first, second))))
        wrong.push({ first, second, end, found, allowed });
    }
  }
  expect(wrong, seedLabel).toEqual([]);
});
