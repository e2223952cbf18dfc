import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { maxEarlierEntryBytes } from '../../../src/limits/data.ts';
import { limits } from '../../../src/limits.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { append, backupOf, type Entry, put } from '../../setup/backup/trails.ts';
import { depth } from '../../setup/depth.ts';
import { trailOf } from '../../setup/node/history.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { type TestStore, verify } from '../../setup/node/store.ts';
import { digestTables } from '../../setup/server/digest.ts';

let nodes: TestNodes;
let node: TestStore;
beforeEach(async () => {
  nodes = await openNodes();
  node = nodes.node;
});
afterEach(() => nodes.close());

const nested = (levels: number): unknown => JSON.parse('['.repeat(levels) + ']'.repeat(levels));

function verifyOffline(backup: string) {
  return verifyBackup(() => Readable.from([Buffer.from(backup)]), { schemaVersion: CURRENT_SCHEMA_VERSION });
}

/** Returns the hashes of the entries of `wanted` that `trail` has neither itself nor inside imports of imports. */
function lostAtAnyDepth(wanted: Entry[], trail: Entry[]): string[] {
  const text = JSON.stringify(trail);
  return wanted.map(({ hash }) => hash).filter((hash) => !text.includes(hash));
}

describe('truncating restores and their undos, in turns', () => {
  it('never end with an undo that is refused after its restore was made', async () => {
    const start = put([], 1);
    const backup = backupOf(start);
    // The deepest document, or an entry that has been imported many times.
    const levels = depth === 'full' ? limits.maxDocumentDepth + 3 : limits.maxReadableEntryDepth - 12;
    const deep = append(start, { action: 'document.put', changes: nested(levels - 1) });
    await node.restore(backupOf(deep));
    let turns = 0;
    for (; ; turns += 1) {
      const before = await digestTables(nodes.database.pool);
      const plan = await node.restore(backup, { truncate_audit: true, dry_run: true }).catch((error: unknown) => error);
      const restored = await node.restore(backup, { truncate_audit: true }).catch((error: unknown) => error);
      if (restored instanceof Error) {
        // The plan says so, too, and nothing has changed.
        const refusal = { code: 'audit_entry_too_large', status: 422, place: { pointer: '/truncate_audit' } };
        expect(plan).toMatchObject(refusal);
        expect(restored).toMatchObject(refusal);
        expect(await digestTables(nodes.database.pool)).toBe(before);
        break;
      }
      expect(plan).toMatchObject({ dry_run: true });
      expect(await node.undo()).toMatchObject({ undo_record_verified: true });
    }
    expect(turns).toBeGreaterThanOrEqual(depth === 'full' ? 40 : 5);
    expect(lostAtAnyDepth(deep, await trailOf(node))).toEqual([]);
    expect(await verify(node)).toMatchObject({ ok: true });
    const own = await node.backup();
    await verifyOffline(own);
    // Without the removal of entries, the restore goes on, and so does its undo.
    expect(await node.restore(backup)).toMatchObject({ replaced_audit_count: 0 });
    await node.undo();
    expect(await node.restore(own)).toMatchObject({ verified: true });
  }, 120_000);
});

/** Inserts the entry of the largest commit that an earlier version could make, as that version would have. */
async function insertLargestEntry(): Promise<number> {
  const { rows } = await nodes.database.pool.query(
    `with names as (
       select i, lpad(i::text, 512, '"') as name from generate_series(1, $1) i
     ), entry as (
       select jsonb_build_object('seq', audit_seq + 1, 'event_id', gen_random_uuid(), 'recorded_at', '2026-01-01T00:00:00.000000Z',
                'action', 'state.put', 'actor', 'client', 'request_id', 'test', 'revision', revision + 1, 'epoch', epoch,
                'changes', (select jsonb_agg(jsonb_build_object('op', 'put', 'name', name, 'value', repeat('x', $2), 'created', true)) from names)
                        || (select jsonb_agg(jsonb_build_object('op', 'delete', 'name', translate(name, '"', '\\'))) from names)) as entry,
              audit_hash as previous
         from loom_state where state_key = 'default'
     ), appended as (
       insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
       select 'default', (entry ->> 'seq')::bigint, (entry ->> 'event_id')::uuid, (entry ->> 'recorded_at')::timestamptz,
              entry ->> 'action', entry, loom_chain_hash(previous, entry) from entry
       returning seq, hash, entry
     )
     update loom_state s set audit_seq = a.seq, audit_hash = a.hash, revision = s.revision + 1
       from appended a where s.state_key = 'default' returning octet_length(a.entry::text) as bytes`,
    [limits.maxChangesPerCommit, Math.floor(limits.maxStateBodyBytes / limits.maxChangesPerCommit) - 512],
  );
  return rows[0].bytes;
}

/** The bytes of five documents that together make the largest entry of a commit, with room for its other members. */
const VALUE_BYTES = Math.floor((limits.maxAuditEntryBytes - 2_048) / 5);

describe('the largest entry that an earlier version could write', () => {
  it('is backed up and verified. At full depth, it is also truncated away, undone, adopted and imported elsewhere, with the largest commit', async () => {
    await node.put('a', 1);
    const base = await node.backup();
    const bytes = await insertLargestEntry();
    expect(bytes).toBeGreaterThan(1.1 * limits.maxAuditEntryBytes);
    expect(bytes).toBeLessThan(maxEarlierEntryBytes);
    expect(await verifyOffline(await node.backup())).toMatchObject({ auditEntries: 2 });
    if (depth !== 'full') return;
    const value = JSON.stringify('x'.repeat(VALUE_BYTES - 2));
    const changes = Array.from({ length: 5 }, (_, index) => ({ op: 'put' as const, name: `${index}`, json: value }));
    await node.commit({ action: 'state.patch', changes });
    const whole = await node.backup();
    const [other, diverged] = [await openNodes(), await openNodes()];
    try {
      expect(await other.node.restore(whole)).toMatchObject({ audit: { adopted: 3 } });
      await diverged.node.put('theirs', 1);
      expect(await diverged.node.restore(whole)).toMatchObject({ audit: { imported: 3 } });
      expect(await node.restore(base, { truncate_audit: true })).toMatchObject({ replaced_audit_count: 2 });
      expect(await node.undo()).toMatchObject({ audit: { imported: 2 }, undo_record_verified: true });
      // The put, the restore, two imports and the undo. The trail also tells again what the undo brought back.
      const recorded = (await trailOf(node)).filter(({ action }) => action === 'undo.changes').length;
      expect(recorded).toBeGreaterThan(1);
      expect(await verify(node)).toMatchObject({ ok: true, entries: 5 + recorded });
      const own = await node.backup();
      expect(await verifyOffline(own)).toMatchObject({ auditEntries: 5 + recorded });
      expect(await other.node.restore(own)).toMatchObject({ verified: true });
      expect(await verify(other.node)).toMatchObject({ ok: true });
      console.info(`memory after entries of ${bytes} bytes and more: ${process.memoryUsage.rss() / 2 ** 20} MiB`);
    } finally {
      await Promise.all([other.close(), diverged.close()]);
    }
  }, 300_000);
});

describe('a document larger than LOOM_MAX_DOCUMENT_BYTES of the node that restores it', () => {
  it('is restored, read, backed up and undone', async () => {
    const value = 'x'.repeat(5_000);
    await node.put('large', value);
    const backup = await node.backup();
    const small = await openNodes(1, { maxDocumentBytes: 1_024 });
    try {
      await small.node.restore(backup);
      expect(await small.node.state()).toEqual({ large: value });
      await small.node.put('large', 1);
      await small.node.restore(backup);
      await small.node.undo();
      expect(await small.node.state()).toEqual({ large: 1 });
      await small.node.undo();
      expect(await node.restore(await small.node.backup())).toMatchObject({ verified: true });
    } finally {
      await small.close();
    }
  });
});
