import pg from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { migrate } from '../../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../../src/persistence/schema/migrations.ts';
import { ensureState } from '../../../../src/persistence/state/state-row.ts';
import { outcomeOf } from '../../../setup/node/nodes.ts';
import { openTestStore } from '../../../setup/node/store.ts';
import { openDoor } from '../../../setup/server/door.ts';
import { type PrivateServer, startPrivateServer } from '../../../setup/server/private-server.ts';

let primary: PrivateServer;
let standby: PrivateServer;
const urlOf = (...servers: PrivateServer[]): string =>
  `postgres://loom:loom@${servers.map(({ port }) => `127.0.0.1:${port}`).join()}/postgres`;

async function runOn(server: PrivateServer, statement: string): Promise<void> {
  const client = new pg.Client({ connectionString: server.url });
  await client.connect();
  await client.query(statement);
  await client.end();
}

/** Refuses writes on the stand-in for a standby, which is a server of its own. */
async function setReadOnly(isReadOnly: boolean): Promise<void> {
  const change = `alter database postgres set default_transaction_read_only = ${isReadOnly ? 'on' : 'off'}`;
  await runOn(standby, `begin read write; ${change}; commit`);
}

beforeAll(async () => {
  const start = () => startPrivateServer({ ownIdentifier: true });
  [primary, standby] = await Promise.all([start(), start()]);
  for (const server of [primary, standby]) {
    await runOn(server, `create role loom superuser login password 'loom'`);
    const door = openDoor(urlOf(server));
    await migrate(door, await loadMigrations());
    await ensureState(door, 'default');
    await door.close({ deadlineMs: 1_000 });
  }
  await setReadOnly(true);
});
afterAll(() => Promise.all([primary, standby].map((server) => server?.stop())));

describe('after the primary has frozen and a standby was promoted', () => {
  it('commits go on at the standby, although the connections to the primary stay open', async () => {
    const node = await openTestStore(urlOf(primary, standby));
    try {
      await node.put('before', 0);
      // Several open connections, of which each would otherwise hold up a request.
      await Promise.all(Array.from({ length: 4 }, () => node.store.readHead()));
      await primary.freeze();
      await setReadOnly(false);
      const reads = Array.from({ length: 3 }, () => outcomeOf(node.store.readHead()));
      const receipts = await Promise.all([node.put('a', 1), node.put('b', 2)]);
      expect(receipts.map(({ created }) => created)).toEqual([true, true]);
      await node.put('c', 3);
      expect(await node.state()).toEqual({ a: 1, b: 2, c: 3 });
      expect((await node.store.readDocument('c'))?.text).toBe('3');
      // The reads that wait for the frozen server end, too. None takes a connection from a later one.
      expect(await Promise.all(reads)).toContain('database_unavailable');
      expect(node.database.usage().waiting).toBe(0);
    } finally {
      await primary.thaw();
      await node.close();
    }
  });
});
