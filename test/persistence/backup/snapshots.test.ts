import type { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { createEmptyDatabase, type TestDatabase } from '../../setup/server/database.ts';
import { fillState } from '../../setup/server/filled-state.ts';

/** Far more than all buffers between PostgreSQL and the reader hold. */
const ENTRIES = 2 * limits.maxSnapshotEntries + 1_000;

let database: TestDatabase;
let node: TestStore;
beforeAll(async () => {
  database = await createEmptyDatabase();
  await fillState(database.url, { documents: 3, documentBytes: 100, entries: ENTRIES });
  node = await openTestStore(database.url);
});
afterAll(async () => {
  await node.close();
  await database.drop();
});

interface Reader {
  /** Reads at least this many bytes more. Returns false at the end. */
  read(bytes: number): Promise<boolean>;
  /** Reads the rest, and returns the whole. */
  readAll(): Promise<string>;
}

function slowReader(body: Readable): Reader {
  const chunks: Buffer[] = [];
  const source = body[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
  const next = async (): Promise<number | undefined> => {
    const { done, value } = await source.next();
    if (done === true) return undefined;
    chunks.push(Buffer.from(value));
    return value.length;
  };
  return {
    read: async (bytes) => {
      for (let left = bytes; left > 0; ) {
        const length = await next();
        if (length === undefined) return false;
        left -= length;
      }
      return true;
    },
    readAll: async () => {
      while ((await next()) !== undefined);
      return Buffer.concat(chunks).toString('utf8');
    },
  };
}

async function openSlowBackup(): Promise<Reader> {
  const context = { requestId: 'test', signal: new AbortController().signal };
  const { body } = await node.store.openBackup({ includeAudit: true }, context);
  return slowReader(body);
}

/** Returns when the snapshot of the backup was taken; undefined without one. */
async function snapshotTaken(): Promise<string | undefined> {
  const { rows } = await database.pool.query<{ taken: string }>(
    `select xact_start::text as taken from pg_stat_activity
      where datname = current_database() and query like 'copy (select seq, hash, entry%'`,
  );
  return rows[0]?.taken;
}

const MiB = 1024 * 1024;

describe('a backup whose client is slow', () => {
  it('does not keep its first snapshot, so PostgreSQL can remove what commits replace', async () => {
    const reader = await openSlowBackup();
    const seen = new Set<string>();
    for (let change = 1; await reader.read(MiB / 4); change += 1) {
      const taken = await snapshotTaken();
      if (taken !== undefined) seen.add(taken);
      await node.put('document-0', { change });
    }
    expect(seen.size).toBeGreaterThan(1);
  });

  it('is of the instant at which it began, whatever is committed meanwhile', async () => {
    const before = await node.state();
    const { head, revision } = await node.store.readHead();
    const reader = await openSlowBackup();
    for (let change = 1; change <= 12; change += 1) {
      await reader.read(MiB / 4);
      await node.put(`document-${change % 3}`, { change });
    }
    const text = await reader.readAll();
    const backup = JSON.parse(text);
    expect(backup.state).toEqual(before);
    expect(backup.revision).toBe(revision);
    expect(backup.audit_entries).toHaveLength(head.seq);
    expect(backup.audit_entries.at(-1)).toMatchObject(head);
    expect(backup.manifest).toMatchObject({ audit_verified: true, audit_head: head });
    await node.restore(text);
    expect(await node.state()).toEqual(before);
    expect(await verify(node)).toMatchObject({ ok: true });
  });

  it('fails if a restore removes entries that it has still to read, also if others have taken their places', async () => {
    const earlier = await node.backup();
    for (let change = 1; change <= 3; change += 1) await node.put('document-0', { change });
    for (const laterCommits of [0, 5]) {
      const reader = await openSlowBackup();
      await reader.read(1);
      await node.restore(earlier, { truncate_audit: true });
      for (let change = 1; change <= laterCommits; change += 1) await node.put('document-1', { change });
      await expect(reader.readAll()).rejects.toMatchObject({
        code: 'restore_in_progress',
        message: expect.stringMatching(/Take the backup again/),
      });
    }
    expect(JSON.parse(await node.backup()).manifest).toMatchObject({ audit_verified: true });
  });
});

it('ends although somebody has set the head far behind the last entry, or planted an entry there', async () => {
  const far = 4_000_000_000_000;
  await database.pool.query(`update loom_state set audit_seq = ${far} where state_key = 'default'`);
  expect(JSON.parse(await node.backup()).manifest).toMatchObject({ audit_verified: false });
  await database.pool.query(
    `insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
     values ('default', ${far}, gen_random_uuid(), now(), 'document.put', '{}', sha256(''))`,
  );
  const planted = JSON.parse(await node.backup());
  expect(planted.manifest).toMatchObject({ audit_verified: false });
  expect(planted.audit_entries.length).toBeGreaterThan(2 * limits.maxSnapshotEntries);
});
