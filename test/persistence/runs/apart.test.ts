import { afterEach, beforeEach, expect, it } from 'vitest';
import type { RunLedger } from '../../../src/domain/backup-run.ts';
import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations, parseMigration } from '../../../src/persistence/schema/migrations.ts';
import { openTestStore } from '../../setup/node/store.ts';
import { asOwner } from '../../setup/roles/roles.ts';
import { fault, name, openLedger, passTime, required, slotAt, takeBackup, written } from '../../setup/runs/ledger.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { digestTables } from '../../setup/server/digest.ts';
import { openDoor } from '../../setup/server/door.ts';

let database: TestDatabase;
let ledger: RunLedger;
beforeEach(async () => {
  database = await createTestDatabase();
  ledger = openLedger(database);
});
afterEach(() => database.drop());

/** Calls every verb, with the names and slots that each state has. Returns the codes of those that failed. */
async function callAll(one: RunLedger): Promise<unknown[]> {
  const scheduled = one.claimSlot('scheduled', slotAt(1));
  const run = (await scheduled) ?? {
    id: crypto.randomUUID(),
    kind: 'scheduled',
    slot: slotAt(1),
    attempt: 1,
    name: null,
  };
  const drill = await one.claimSlot('drill', slotAt(9), 'backup-8');
  const calls = [
    () => one.claimNow('manual'),
    () => one.claimNow('drill', 'backup-7'),
    () => one.renew(run),
    () => name(one, run, 1),
    () => one.recordWritten(run, written),
    () => one.recordProven(run, { restoreSeconds: 1 }),
    () => one.recordVerified(drill ?? run, 'No key.'),
    () => one.recordFailed(run, { ...fault, withdraws: true }),
    () => one.release(run),
    () => one.claimRetry(),
    () => one.beginDeletion('backup-7'),
    () => one.recordDeleted('backup-7'),
    () => one.cancelDeletion('backup-8', fault),
    () => one.recordNeverWritten('backup-6'),
    () => one.nextToProve(),
    () => one.listRuns({ limit: 9 }),
    () => one.listBackups({ limit: 9 }),
    () => one.readBackup('backup-8'),
    () => one.observe(),
  ];
  const codes: unknown[] = [];
  for (const call of calls) await call().catch((error: { code: unknown }) => codes.push(error.code));
  return codes;
}

async function prepare(one: RunLedger): Promise<void> {
  await takeBackup(one, 6, 'named');
  for (const hour of [7, 8, 10]) await takeBackup(one, hour);
}

it('the runs of two states never meet', async () => {
  const other = openLedger(database, 'a', { stateKey: 'other' });
  await prepare(ledger);
  await prepare(other);
  await passTime(database.pool, 30_000);
  const before = await digestTables(database.pool, 'default');
  expect(await callAll(other)).toEqual([]);
  expect(await digestTables(database.pool, 'default')).toBe(before);
  const changed = await digestTables(database.pool, 'other');
  expect(await callAll(ledger)).toEqual([]);
  expect(await digestTables(database.pool, 'other')).toBe(changed);
});

it('a node writes nothing once the schema no longer serves it', async () => {
  await prepare(ledger);
  const running = await takeBackup(ledger, 12, 'written');
  const migrations = await loadMigrations();
  const next = `${String(migrations.length + 1).padStart(4, '0')}_next.sql`;
  const owner = openDoor(asOwner(database.url), 1);
  await migrate(owner, [...migrations, parseMigration(next, Buffer.from('-- loom: breaking\nselect 1;\n'))]);
  await owner.close({ deadlineMs: 5_000 });
  const before = await digestTables(database.pool);
  expect(await callAll(ledger)).toEqual(['schema_ahead', 'schema_ahead']);
  expect(await ledger.recordProven(running, { restoreSeconds: 1 })).toBe(false);
  expect(await ledger.renew(running)).toBe(false);
  expect(await ledger.readBackup('backup-8')).toMatchObject({ outcome: 'proven' });
  expect(await digestTables(database.pool)).toBe(before);
});

it('restores, undos and scratch states leave the catalogue as it is', async () => {
  const node = await openTestStore(database.url);
  try {
    await node.put('a', 1);
    const backup = await node.backup();
    await prepare(ledger);
    const before = await database.pool.query('select * from loom_backup_run order by ordinal');
    await node.put('a', 2);
    await node.restore(backup, { truncate_audit: true });
    await node.undo();
    await node.restore(backup, { into_scratch: 'proof-1' });
    await node.store.dropScratch('proof-1');
    expect((await database.pool.query('select * from loom_backup_run order by ordinal')).rows).toEqual(before.rows);
    expect(required(await ledger.nextToProve())).toBe('backup-7');
  } finally {
    await node.close();
  }
});
