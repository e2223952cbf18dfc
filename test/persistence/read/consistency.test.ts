import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { openNodes, outcomeOf, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { asOwner } from '../../setup/roles/roles.ts';
import { verifyBySql } from '../../setup/server/verify-sql.ts';

const repairSql = await readFile(new URL('../../../docs/repair-state.sql', import.meta.url), 'utf8');

let nodes: TestNodes;
let node: TestStore;
beforeEach(async () => {
  nodes = await openNodes();
  node = nodes.node;
  await node.put('a', 'one');
  await node.put('b', 'two');
});
afterEach(() => nodes.close());

const lastBackup = async (of = node) => (await of.store.readHead()).lastBackupAt;

/** Returns the outcome of everything that reads or proves the whole state. */
async function outcomes(of: TestStore): Promise<Record<string, string>> {
  return {
    state: await outcomeOf(of.state()),
    backup: await outcomeOf(of.takeBackup()),
    'backup without entries': await outcomeOf(of.backup({ includeAudit: false })),
    verification: await verification(of),
  };
}

/** Returns `made` if everything matches the trail, the reason if not, or the code of an error. */
async function verification(of: TestStore): Promise<string> {
  try {
    const verdict = await verify(of);
    return verdict.ok ? 'made' : verdict.reason;
  } catch (error) {
    return outcomeOf(Promise.reject(error));
  }
}

const allRefused = {
  state: 'state_inconsistent',
  backup: 'state_inconsistent',
  'backup without entries': 'state_inconsistent',
  verification: 'state_inconsistent',
};
const allMade = { state: 'made', backup: 'made', 'backup without entries': 'made', verification: 'made' };

describe('a state whose documents were changed by hand', () => {
  test.each([
    ['deleted', 'a', `delete from loom_document where state_key = 'default' and name = 'a'`],
    ['inserted', 'c', `insert into loom_document (state_key, name, value, revision) values ('default', 'c', '1', 2)`],
    ['replaced', 'a', `update loom_document set value = '"longer"' where state_key = 'default' and name = 'a'`],
    ['miscounted', undefined, `update loom_state set documents = 3 where state_key = 'default'`],
  ])(
    '(%s) is refused as a whole, and the time of the last backup stays, until its row is repaired',
    async (_, document, spoil) => {
      const reason = document === undefined ? 'state_mismatch' : 'document_mismatch';
      await node.takeBackup();
      const before = await lastBackup();
      await nodes.database.pool.query(spoil);
      expect(await outcomes(node)).toEqual({ ...allRefused, verification: reason });
      expect(await lastBackup()).toBe(before);
      const found = { ok: false, by: 'verify', first_bad_seq: null, reason };
      expect(node.store.observe().lastChainCheck).toMatchObject(found);
      expect(await outcomeOf(node.put('d', 4))).toBe('made');
      await nodes.database.pool.query(repairSql);
      const after = await outcomes(node);
      expect(await lastBackup()).not.toBe(before);
      if (document === undefined) return expect(after).toEqual(allMade);
      // The repair counts. It does not make the document what the trail says. The next change of it does.
      expect(after).toEqual({ ...allMade, verification: reason });
      expect(node.store.observe().lastChainCheck).toMatchObject(found);
      await node.put(document, 'again');
      expect(await outcomes(node)).toEqual(allMade);
    },
  );

  test('says both totals, and the verification names the document as well', async () => {
    await nodes.database.pool.query(`delete from loom_document where state_key = 'default' and name = 'a'`);
    const totals = 'The state row counts 2 documents with 10 bytes, and the node found 1 document with 5 bytes.';
    expect(await verify(node)).toMatchObject({
      ok: false,
      first_bad_seq: null,
      reason: 'document_mismatch',
      document: 'a',
      mismatches: [
        { reason: 'document_mismatch', document: 'a' },
        { reason: 'state_mismatch', detail: expect.stringContaining(totals) },
      ],
      mismatch_count: 2,
    });
    await expect(node.state()).rejects.toThrow(
      'The state row counts 2 documents with 10 bytes, and the node found 1 document with 5 bytes.',
    );
  });

  test('answers the DELETE of the last document with state_inconsistent, and deletes nothing', async () => {
    await nodes.database.pool.query(`update loom_state set documents = 0, bytes = 0 where state_key = 'default'`);
    const deletion = node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'a' }] });
    expect(await outcomeOf(deletion)).toBe('state_inconsistent');
    expect(await node.store.readDocument('a')).toMatchObject({ text: '"one"' });
    // Other commits of its batch are made.
    const again = node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'a' }] });
    expect(await Promise.all([outcomeOf(again), outcomeOf(node.put('b', 'two'))])).toEqual([
      'state_inconsistent',
      'made',
    ]);
  });

  test('is healed by a restore that replaces the state, because a restore counts again', async () => {
    const backup = await node.backup();
    await nodes.database.pool.query(`delete from loom_document where state_key = 'default' and name = 'a'`);
    await node.restore(backup);
    expect(await outcomes(node)).toEqual(allMade);
    expect(await node.state()).toEqual({ a: 'one', b: 'two' });
  });
});

describe('a state whose row was deleted', () => {
  test('is answered with "starting" by every read and write, and no start creates a new row', async () => {
    await nodes.database.pool.query(`delete from loom_state where state_key = 'default'`);
    const restarted = await openTestStore(nodes.database.url);
    expect({
      document: await outcomeOf(restarted.store.readDocument('a')),
      absent: await outcomeOf(restarted.store.readDocument('absent')),
      page: await outcomeOf(restarted.store.listDocuments({ limit: 1 })),
      audit: await outcomeOf(restarted.store.readAudit({ limit: 1, order: 'asc' })),
      'audit stream': await outcomeOf(restarted.store.openAudit({ order: 'asc' })),
      commit: await outcomeOf(restarted.put('a', 2)),
      ...(await outcomes(restarted)),
    }).toEqual({
      document: 'starting',
      absent: 'starting',
      page: 'starting',
      audit: 'starting',
      'audit stream': 'starting',
      commit: 'starting',
      state: 'starting',
      backup: 'starting',
      'backup without entries': 'starting',
      verification: 'starting',
    });
    await restarted.close();
  });

  test('gets its row back from docs/repair-state.sql, with the same trail and a new epoch', async () => {
    const before = await node.store.readHead();
    await nodes.database.pool.query(`delete from loom_state where state_key = 'default'`);
    await nodes.database.pool.query(repairSql);
    const after = await node.store.readHead();
    expect(after).toEqual({ ...before, epoch: expect.not.stringMatching(before.epoch), updatedAt: expect.any(String) });
    await node.put('c', 3);
    expect(await outcomes(node)).toEqual(allMade);
    expect(await verifyBySql(nodes.database.pool)).toEqual({ entries: 3, ok: true, firstBadSeq: null });
  });

  test('of a state that never existed is not created by docs/repair-state.sql', async () => {
    await nodes.database.pool.query(repairSql.replace(`'default'`, `'other'`));
    const { rows } = await nodes.database.pool.query('select state_key from loom_state');
    expect(rows).toEqual([{ state_key: 'default' }]);
  });
});

describe('a policy that hides documents from the role of the node', () => {
  const role = `loom_hidden_${randomBytes(4).toString('hex')}`;
  let limited: TestStore;
  beforeEach(async () => {
    const { pool, url } = nodes.database;
    await pool.query(`create role ${role} login password 'secret'`);
    await pool.query(`grant select, insert, update, delete on all tables in schema public to ${role}`);
    await pool.query(`grant execute on all routines in schema public to ${role}`);
    limited = await openTestStore(Object.assign(new URL(url), { username: role, password: 'secret' }).href);
  });
  afterEach(async () => {
    await limited.close();
    await nodes.database.pool.query(
      `drop policy if exists hide on loom_document; drop policy if exists hide on loom_audit`,
    );
    await nodes.database.pool.query(`alter table loom_document disable row level security`);
    await nodes.database.pool.query(`alter table loom_audit disable row level security`);
    await nodes.database.pool.query(`drop owned by ${role}; drop role ${role}`);
  });

  test('makes no read and no backup look complete', async () => {
    const owner = await openTestStore(asOwner(nodes.database.url));
    await nodes.database.pool.query(
      `alter table loom_document enable row level security; create policy hide on loom_document using (name <> 'a')`,
    );
    expect({
      ...(await outcomes(limited)),
      hidden: await outcomeOf(limited.store.readDocument('a')),
      visible: await outcomeOf(limited.store.readDocument('b')),
      page: await outcomeOf(limited.store.listDocuments({ limit: 10 })),
      restore: await outcomeOf(limited.restore(await owner.backup())),
      deletion: await outcomeOf(limited.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'a' }] })),
      creation: await outcomeOf(limited.put('c', 1)),
    }).toEqual({
      ...allRefused,
      hidden: 'state_inconsistent',
      visible: 'state_inconsistent',
      page: 'state_inconsistent',
      restore: 'state_inconsistent',
      deletion: 'state_inconsistent',
      creation: 'state_inconsistent',
    });
    await expect(limited.state()).rejects.toThrow('Row-level security applies');
    expect(await lastBackup(owner)).toBeNull();
    // The owner is not subject to the policy.
    expect(await outcomes(owner)).toEqual(allMade);
    await owner.close();
  });

  test('or undo records refuses the undo instead of having nothing to undo', async () => {
    await node.restore(await node.backup(), { truncate_audit: true });
    await nodes.database.pool.query(
      `alter table loom_snapshot enable row level security; create policy hide on loom_snapshot using (false)`,
    );
    expect(await outcomeOf(limited.undo())).toBe('state_inconsistent');
    await nodes.database.pool.query(`drop policy hide on loom_snapshot`);
    await nodes.database.pool.query(`alter table loom_snapshot disable row level security`);
    expect(await outcomeOf(limited.undo())).toBe('made');
  });

  test('or entries lets no backup and no verification pass', async () => {
    await nodes.database.pool.query(
      `alter table loom_audit enable row level security; create policy hide on loom_audit using (seq < 2)`,
    );
    const query = { limit: 10, order: 'asc' } as const;
    expect({
      ...(await outcomes(limited)),
      page: await outcomeOf(limited.store.readAudit(query)),
      stream: await outcomeOf(limited.store.openAudit(query)),
      undo: await outcomeOf(limited.undo()),
    }).toEqual({ ...allRefused, page: 'state_inconsistent', stream: 'state_inconsistent', undo: 'nothing_to_undo' });
  });
});

describe('a clock that was ahead', () => {
  const isAhead = async () => (await node.store.readHead()).futureTimes;

  test('is flagged by the time of the last backup, which the next backup replaces', async () => {
    await nodes.database.pool.query(`update loom_state set last_backup_at = now() + interval '1 year'`);
    expect(await isAhead()).toEqual(['last_backup_at']);
    const ahead = await lastBackup();
    await node.takeBackup();
    expect(await isAhead()).toEqual([]);
    expect(Date.parse((await lastBackup()) ?? '')).toBeLessThan(Date.parse(ahead ?? ''));
  });

  test('breaks no chain: entries may go back in time', async () => {
    // An entry that a node made while the clock was a year ahead, and the entry after it.
    const text = `to_char((recorded_at + interval '1 year') at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
    await nodes.database.pool.query(`
      begin;
      select set_config('loom.audit_rewrite', 'restore', true);
      update loom_audit set entry = jsonb_set(entry, '{recorded_at}', to_jsonb(${text})),
             recorded_at = recorded_at + interval '1 year' where state_key = 'default' and seq = 1;
      update loom_audit a set hash = c.hash
        from (select seq, loom_chain_after(decode(repeat('00', 32), 'hex'), entry) over (order by seq) as hash
                from loom_audit where state_key = 'default') c
       where a.state_key = 'default' and a.seq = c.seq;
      update loom_state set audit_hash = (select hash from loom_audit where state_key = 'default' and seq = 2)
       where state_key = 'default';
      commit`);
    expect(await verify(node)).toMatchObject({ ok: true });
    expect(await verifyBySql(nodes.database.pool)).toMatchObject({ ok: true });
    const backup = await node.takeBackup();
    expect(JSON.parse(backup).manifest).toMatchObject({ audit_verified: true });
    await node.put('a', 'changed');
    await node.restore(backup);
    await node.undo();
    expect(await node.state()).toMatchObject({ a: 'changed' });
    expect(await outcomes(node)).toEqual(allMade);
  });
});

describe('a table whose sizes are wrong', () => {
  test('cuts the state and the backup at the end, where the difference shows', async () => {
    // The column stays generated in LOOM's schema. Like a damaged index, this shows only while the rows are read.
    await nodes.database.pool.query(`alter table loom_document alter column bytes drop expression;
      update loom_document set bytes = bytes + 1 where state_key = 'default' and name = 'b';
      update loom_state set bytes = bytes + 1 where state_key = 'default'`);
    const { body } = await node.store.openState();
    const parts: string[] = [];
    const read = async () => {
      for await (const part of body) parts.push(String(part));
    };
    await expect(read()).rejects.toMatchObject({ code: 'state_inconsistent' });
    expect(() => JSON.parse(parts.join(''))).toThrow(SyntaxError);
    expect(await outcomes(node)).toMatchObject({ backup: 'state_inconsistent' });
    expect(await lastBackup()).toBeNull();
  });
});
