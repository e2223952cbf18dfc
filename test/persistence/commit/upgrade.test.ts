import { randomBytes, randomUUID } from 'node:crypto';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import { readServingFacts } from '../../../src/persistence/schema/serving-facts.ts';
import { openTestStore, verify } from '../../setup/node/store.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';

/** The tables that a node of schema version 2 uses, with the rights that the operator has granted. */
const tablesOfVersion2 = [
  'loom_meta',
  'loom_state',
  'loom_document',
  'loom_audit',
  'loom_scratch',
  'loom_snapshot',
  'loom_snapshot_document',
  'loom_snapshot_audit',
];

const migrations = await loadMigrations();
const role = `loom_test_${randomBytes(6).toString('hex')}`;

let database: TestDatabase;
beforeEach(async () => {
  database = await createEmptyDatabase();
  await migrate(database.door(), migrations.slice(0, 2));
  await database.pool.query(`insert into loom_state (state_key, epoch) values ('default', 'epoch')`);
});
afterEach(() => database.drop());

/** Commits as a node of schema version 2 does. */
const commitAsVersion2 = (name: string) => `
  select loom_commit('default', jsonb_build_array(jsonb_build_object('event_id', '${randomUUID()}', 'action', 'document.put',
           'actor', 'admin', 'request_id', 'test', 'changes', '[{"op": "put", "name": "${name}", "value": 1}]'::jsonb)),
         '{"max_document_bytes": 1000, "max_deletes": 10, "lock_timeout_ms": 1000}') as results`;

/** Returns the rights without which a node of this role would not serve. */
async function rightsLackedBy(name: string): Promise<string[]> {
  return database.door().transaction('write', async (connection) => {
    await connection.execute(`set local role ${name}`);
    return (await readServingFacts(connection, 'default')).rights;
  });
}

describe('the migration to schema version 3', () => {
  it('leaves a role that may only serve the rights that it needs', async () => {
    await database.pool.query(`create role ${role}`);
    try {
      await database.pool.query(
        `grant select, insert, update, delete on ${tablesOfVersion2.join()} to ${role}; grant usage on schema public to ${role}`,
      );
      await database.pool.query(
        `revoke execute on all functions in schema public from public; grant execute on all functions in schema public to ${role};
         alter default privileges revoke execute on functions from public`,
      );
      const before = await database.pool.query(`begin; set local role ${role}; ${commitAsVersion2('before')}; commit`);
      expect(before).toHaveLength(4);
      await migrate(database.door(), migrations);
      await database.pool.query(`begin; set local role ${role}; ${commitAsVersion2('after')}; commit`);
      expect(await rightsLackedBy(role)).toEqual([]);
      await database.pool.query(
        `begin; set local role ${role};
         insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
         values ('other', 1, gen_random_uuid(), now(), 'restore', '{}', sha256('')); commit`,
      );
      const { rows } = await database.pool.query('select state_key, restored_seq from loom_lineage order by state_key');
      expect(rows).toEqual([
        { state_key: 'default', restored_seq: '0' },
        { state_key: 'other', restored_seq: '1' },
      ]);
    } finally {
      await database.pool.query(`drop owned by ${role}; drop role ${role}`);
    }
  });

  it('lets nodes of version 2 and 3 commit in turns', async () => {
    await database.pool.query(commitAsVersion2('first'));
    await migrate(database.door(), migrations);
    const node = await openTestStore(database.url);
    try {
      const { epoch } = await node.put('second', 1);
      const { rows } = await database.pool.query(commitAsVersion2('third'));
      expect(rows[0].results).toMatchObject([{ status: 'committed', revision: 3, epoch: 'epoch' }]);
      expect(await node.put('fourth', 1)).toMatchObject({ revision: 4, epoch: 'epoch' });
      expect(epoch).toBe('epoch');
      expect(await node.state()).toEqual({ first: 1, second: 1, third: 1, fourth: 1 });
      expect(await verify(node)).toMatchObject({ ok: true, entries: 4 });
    } finally {
      await node.close();
    }
  });
});
