import { gunzipSync, gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { type Continuity, checkAgainst } from '../../../src/backup/offline/against.ts';
import type { OpenBackup } from '../../../src/backup/offline/read.ts';
import type { Trail } from '../../../src/backup/offline/trail.ts';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { isLoomError } from '../../../src/errors.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { cloneDatabase, type TestDatabase } from '../../setup/server/database.ts';

const LENGTH = 12;
let nodes: TestNodes;
/** Contains the backups of the trail when it had 0, 1, 2 … entries. */
const backups: string[] = [];

beforeAll(async () => {
  nodes = await openNodes();
  for (let index = 0; index <= LENGTH; index += 1) {
    if (index > 0) await nodes.node.put(`doc-${index % 5}`, { index, text: 'é🧵', number: 1e21 });
    backups.push(await nodes.node.backup());
  }
});
afterAll(() => nodes.close());

function backupAt(entries: number): string {
  return backups[entries] ?? '';
}

async function trailOf(text: string): Promise<Trail> {
  // Pieces of any size, as a gzip file yields them.
  const bytes = gunzipSync(gzipSync(text));
  const open: OpenBackup = async function* () {
    for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
  };
  return { ...(await verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION, window: 2 })), open };
}

async function against(
  file: string,
  earlier: string,
): Promise<Continuity | { kind: string; seq?: number | undefined }> {
  const trails = [await trailOf(file), await trailOf(earlier)] as const;
  try {
    return await checkAgainst(...trails, 2);
  } catch (error) {
    if (!isLoomError(error)) throw error;
    return { kind: error.code, seq: error.place.seq };
  }
}

/** Runs `act` on a copy of the database that has no other writers. */
async function onCopy(act: (node: TestStore, database: TestDatabase) => Promise<void>): Promise<void> {
  await nodes.node.close();
  const database = await cloneDatabase(nodes.database);
  // The copy stands for the database itself, so the first commit does not start a new epoch.
  await database.pool.query('update loom_lineage set lineage = null');
  nodes.node = await openTestStore(nodes.database.url);
  nodes.nodes[0] = nodes.node;
  const node = await openTestStore(database.url);
  try {
    await act(node, database);
  } finally {
    await node.close();
    await database.drop();
  }
}

/** Cuts off the tail, and adjusts the state row and the index, as a superuser can. */
async function cutTail(database: TestDatabase, to: number): Promise<void> {
  const client = await database.pool.connect();
  try {
    await client.query('begin');
    await client.query('alter table loom_audit disable trigger user');
    await client.query('delete from loom_audit where seq > $1', [to]);
    await client.query('delete from loom_change where seq > $1', [to]);
    await client.query(
      `update loom_state s set audit_seq = $1, revision = $1,
              audit_hash = coalesce((select hash from loom_audit where seq = $1), decode(repeat('00', 32), 'hex'))`,
      [to],
    );
    await client.query('alter table loom_audit enable trigger user');
    await client.query('commit');
  } finally {
    client.release();
  }
}

it('each backup of a node continues each earlier one, whole or in part', async () => {
  for (const earlier of backups) expect(await against(backupAt(LENGTH), earlier)).toEqual({ kind: 'continued' });
  const head = await nodes.node.backup({ includeAudit: false });
  const last = await nodes.node.backup({ auditLimit: 3 });
  expect(await against(last, backupAt(LENGTH - 3))).toEqual({ kind: 'continued' });
  expect(await against(last, backupAt(LENGTH - 4))).toEqual({ kind: 'audit_history_unproven', seq: undefined });
  expect(await against(last, head)).toEqual({ kind: 'continued' });
  expect(await against(head, last)).toEqual({ kind: 'continued' });
  expect(await against(backupAt(3), backupAt(5))).toEqual({ kind: 'audit_history_unproven', seq: undefined });
});

it('a cut tail with an adjusted state row is detected by every backup that contains a part of it, and only by these', async () => {
  await onCopy(async (node, database) => {
    for (const to of [LENGTH - 1, LENGTH - 5, 1, 0]) {
      await cutTail(database, to);
      // The chain is valid, but the documents are not what it says.
      expect(await verify(node)).toMatchObject({ ok: false, reason: 'document_mismatch', entries: to });
      const after = await node.backup();
      expect((await trailOf(after)).manifest).toMatchObject({ audit_verified: true });
      for (const [entries, earlier] of backups.entries()) {
        const lost = { kind: 'audit_history_lost', seq: to + 1 };
        expect(await against(after, earlier)).toEqual(entries <= to ? { kind: 'continued' } : lost);
      }
    }
  });
});

it('a cut tail is found after new commits have taken its place', async () => {
  await onCopy(async (node, database) => {
    await cutTail(database, 7);
    for (let index = 0; index < LENGTH; index += 1) await node.put('grown', index);
    expect(await verify(node)).toMatchObject({ ok: false, reason: 'document_mismatch', entries: 7 + LENGTH });
    const after = await node.backup();
    expect(await against(after, backupAt(7))).toEqual({ kind: 'continued' });
    for (const entries of [8, LENGTH]) {
      expect(await against(after, backupAt(entries))).toEqual({ kind: 'audit_history_lost', seq: 8 });
    }
    const part = await node.backup({ auditLimit: 4 });
    expect(await against(part, backupAt(LENGTH))).toEqual({ kind: 'audit_history_unproven', seq: undefined });
  });
});

it('a restore that removed entries is named, and does not hide a cut before it', async () => {
  await onCopy(async (node, database) => {
    await node.restore(backupAt(4), { truncate_audit: true });
    await node.put('after', 1);
    const after = await node.backup();
    expect(await verify(node)).toMatchObject({ ok: true });
    expect(await against(after, backupAt(4))).toEqual({ kind: 'continued' });
    for (const entries of [5, LENGTH]) {
      expect(await against(after, backupAt(entries))).toMatchObject({
        kind: 'taken_out',
        from: 5,
        by: { seq: 5, replacedEntries: LENGTH - 4, previousHead: { seq: LENGTH } },
      });
    }
    await cutTail(database, 3);
    await node.put('grown', 1);
    expect(await against(await node.backup(), backupAt(4))).toEqual({ kind: 'audit_history_lost', seq: 4 });
  });
});

it('a restore that removes another restore names the entries that the other one had removed', async () => {
  await onCopy(async (node) => {
    for (const to of [8, 8, 5, 6, 2]) {
      await node.restore(backupAt(to), { truncate_audit: true });
      await node.put('after', to);
    }
    const after = await node.backup();
    const kinds = await Promise.all(backups.map(async (earlier) => (await against(after, earlier)).kind));
    expect(kinds).toEqual(backups.map((_, entries) => (entries <= 2 ? 'continued' : 'taken_out')));
    const by = { seq: 3, includesEarlierRestore: true, previousHead: { seq: LENGTH } };
    expect(await against(after, backupAt(LENGTH))).toMatchObject({ by });
  });
});

it('two diverged copies of a database are told apart, until one has imported the other', async () => {
  await onCopy(async (node) => {
    await onCopy(async (other) => {
      await node.put('here', 1);
      await other.put('there', 1);
      await other.put('there', 2);
      const [here, there] = [await node.backup(), await other.backup()];
      for (const pair of [[here, there] as const, [there, here] as const]) {
        expect(await against(...pair)).toEqual({ kind: 'audit_history_lost', seq: LENGTH + 1 });
      }
      await node.restore(there);
      expect(await verify(node)).toMatchObject({ ok: true });
      const joined = await node.backup();
      expect(await against(joined, here)).toEqual({ kind: 'continued' });
      const imported = { kind: 'imported', from: LENGTH + 1, imported: 2, isSameBefore: true };
      expect(await against(joined, there)).toEqual(imported);
      await other.restore(joined);
      expect(await against(await other.backup(), joined)).toMatchObject({ kind: 'imported', from: LENGTH + 1 });
    });
  });
});

it('entries that a restore removed and an undo brought back count as present', async () => {
  await onCopy(async (node) => {
    await node.restore(backupAt(4), { truncate_audit: true });
    await node.undo();
    const after = await node.backup();
    expect(await verify(node)).toMatchObject({ ok: true });
    expect(await against(after, backupAt(LENGTH))).toMatchObject({ kind: 'imported', from: 5, imported: LENGTH - 4 });
  });
});
