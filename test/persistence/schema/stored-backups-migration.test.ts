import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import { readServingFacts } from '../../../src/persistence/schema/serving-facts.ts';
import { openEarlierStore } from '../../setup/node/earlier-store.ts';
import { openTestStore, verify } from '../../setup/node/store.ts';
import { openLedger, slotAt, takeBackup } from '../../setup/runs/ledger.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { openDoor } from '../../setup/server/door.ts';

const migrations = await loadMigrations();
const laterMigrations = ['0006_stored_backups.sql', '0007_state_row_by_place.sql'];

let database: TestDatabase;
beforeEach(async () => {
  database = await createEmptyDatabase();
  await migrate(database.door(), migrations.slice(0, 5));
});
afterEach(() => database.drop());

it('nodes of version 5 go on serving during the migration and after it', async () => {
  const earlier = await openEarlierStore(5, database.url);
  const holder = new pg.Client({ connectionString: database.url });
  await holder.connect();
  try {
    await earlier.put('a', 1);
    const backup = await earlier.backup();
    // A backup that is running and a commit that has not ended hold the migration back no more than each other.
    await holder.query(`begin; select from loom_document; update loom_state set updated_at = updated_at`);
    expect(await migrate(database.door(), migrations)).toEqual(laterMigrations);
    await holder.query('rollback');
    await takeBackup(openLedger(database), 1);
    const { rows } = await database.pool.query('select * from loom_backup_run');
    await earlier.put('a', 2);
    await earlier.restore(backup, { truncate_audit: true });
    await earlier.undo();
    await earlier.restore(backup, { into_scratch: 'trial' });
    await earlier.store.dropScratch('trial');
    expect(await earlier.state()).toEqual({ a: 2 });
    const node = await openTestStore(database.url);
    expect(await verify(node)).toMatchObject({ ok: true });
    await node.close();
    expect((await database.pool.query('select * from loom_backup_run')).rows).toEqual(rows);
  } finally {
    await holder.end();
    await earlier.close();
  }
});

it('a role that serves version 5 has the rights for the runs, too', async () => {
  const role = `serving_${randomBytes(4).toString('hex')}`;
  await database.pool.query(
    `create role ${role} login password 'secret';
     grant select on loom_meta, loom_removal to ${role}; grant select, insert on loom_audit to ${role};
     grant select, insert, update, delete on loom_state, loom_document, loom_scratch, loom_lineage, loom_change, loom_snapshot,
       loom_snapshot_document, loom_snapshot_audit to ${role}`,
  );
  const door = openDoor(Object.assign(new URL(database.url), { username: role, password: 'secret' }).href, 2);
  try {
    await migrate(database.door(), migrations);
    expect(await readServingFacts(door, 'default')).toMatchObject({ rights: [], missing: [], filtered: [] });
    const ledger = openLedger({ ...database, door: () => door });
    await takeBackup(ledger, 1);
    await takeBackup(ledger, 2);
    expect(await ledger.beginDeletion('backup-1')).toBe(true);
    await ledger.recordDeleted('backup-1');
    // The slots are old enough for every row but those of the newest to be pruned.
    await database.pool.query(
      `update loom_backup_run set ended_at = ended_at - interval '1 year';
       insert into loom_backup_run (state_key, kind, slot, attempt, id, node, lease_until, outcome, started_at, ended_at)
       select 'default', 'scheduled', now() + n * interval '1 hour', 1, gen_random_uuid(), 'a', now(), 'failed', now(), now()
         from generate_series(1, 2000) n`,
    );
    await takeBackup(ledger, 3);
    const { rows } = await database.pool.query('select kind, outcome, runs::int from loom_backup_run_total');
    expect(rows).toEqual([{ kind: 'scheduled', outcome: 'proven', runs: 1 }]);
    expect(await ledger.claimSlot('scheduled', slotAt(2))).toBeUndefined();
  } finally {
    await door.close({ deadlineMs: 5_000 });
    await database.pool.query(`drop owned by ${role}; drop role ${role}`);
  }
});
