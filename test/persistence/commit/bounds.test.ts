import { randomUUID } from 'node:crypto';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { openNodes, outcomeOf, type TestNodes, tally } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';

const MiB = 2 ** 20;

let nodes: TestNodes;
let node: TestStore;
let states = 0;
beforeAll(async () => {
  nodes = await openNodes();
});
beforeEach(async () => {
  states += 1;
  node = await openTestStore(nodes.database.url, { stateKey: `bounds-${states}` });
});
afterEach(() => node.close());
afterAll(() => nodes.close());

interface SentCommit {
  action?: string;
  idempotency_key?: string;
  changes: { op: 'put' | 'merge' | 'delete'; name: string; value?: unknown }[];
}

interface Answer {
  status: string;
  timed?: boolean;
  bytes?: number;
}

/** The options that a node of schema version 2 sends. */
const optionsOfVersion2 = { max_document_bytes: 8 * MiB, max_deletes: 10_000, lock_timeout_ms: 10_000 };
const options = {
  ...optionsOfVersion2,
  max_entry_bytes: limits.maxAuditEntryBytes,
  max_work_bytes: limits.maxCommitWorkBytes,
  max_batch_work_bytes: limits.maxBatchWorkBytes,
  max_untimed_work_bytes: limits.maxUntimedWorkBytes,
  max_hold_ms: 60_000,
  max_merge_ms: 60_000,
};

/** Calls `loom_commit` as a node does. */
async function call(commits: SentCommit[], given: Record<string, unknown> = options): Promise<Answer[]> {
  const sent = commits.map((one) => {
    return { event_id: randomUUID(), action: 'state.patch', actor: 'admin', request_id: 'test', ...one };
  });
  const { rows } = await node.pool.query('select loom_commit($1, $2, $3) as results', [
    node.stateKey,
    JSON.stringify(sent),
    JSON.stringify(given),
  ]);
  return rows[0].results;
}

const statuses = (answers: Answer[]): string[] => answers.map(({ status }) => status);
const put = (name: string, value: unknown): SentCommit => ({ changes: [{ op: 'put', name, value }] });
const merge = (name: string, value: unknown): SentCommit => ({ changes: [{ op: 'merge', name, value }] });

async function insertDocuments(count: number, nameOf: string, text: string): Promise<void> {
  await node.pool.query(
    `insert into loom_document (state_key, name, value, revision)
     select $1, ${nameOf}, to_jsonb($3::text), 1 from generate_series(1, $2::int) n`,
    [node.stateKey, count, text],
  );
  await node.pool.query(
    `update loom_state s set (documents, bytes) =
       (select count(*), sum(bytes) from loom_document d where d.state_key = s.state_key) where state_key = $1`,
    [node.stateKey],
  );
}

describe('the audit entry of a commit', () => {
  it('has at most the bytes that a backup accepts, escapes and deletions included; a larger one changes nothing', async () => {
    await call([put('"'.repeat(500), 'old')]);
    const replace: SentCommit = {
      action: 'state.put',
      changes: [{ op: 'put', name: 'new', value: '\u0001'.repeat(9) }],
    };
    const before = await node.store.readHead();
    const [refused] = await call([replace], { ...options, max_entry_bytes: 1_000 });
    expect(refused).toMatchObject({ status: 'audit_entry_too_large', bytes: expect.any(Number) });
    expect(await node.store.readHead()).toEqual(before);

    // A refused commit does not stop the others of its batch.
    const patch = merge('"'.repeat(500), 'new');
    const bytes = refused?.bytes ?? 0;
    expect(statuses(await call([replace, patch], { ...options, max_entry_bytes: bytes - 1 }))).toEqual([
      'audit_entry_too_large',
      'committed',
    ]);
    expect(statuses(await call([replace], { ...options, max_entry_bytes: bytes }))).toEqual(['committed']);
    const { rows } = await node.pool.query(
      'select octet_length(entry::text) as bytes from loom_audit where state_key = $1 order by seq desc limit 1',
      [node.stateKey],
    );
    expect(rows[0].bytes).toBe(bytes);
    expect(await verify(node)).toMatchObject({ ok: true });
  });

  it('of 10,000 long names that replace 10,000 others is refused at the limit of LOOM', {
    timeout: 60_000,
  }, async () => {
    await insertDocuments(9_900, `repeat('"', 500) || n`, 'x');
    const value = JSON.stringify('x'.repeat(2_200));
    const changes = Array.from({ length: 9_900 }, (_, n) => {
      return { op: 'put' as const, name: `${'"'.repeat(500)}-${n}`, json: value };
    });
    const replaced = node.commit({ action: 'state.put', changes });
    await expect(replaced).rejects.toMatchObject({ code: 'audit_entry_too_large', status: 422 });
    expect(await node.store.readHead()).toMatchObject({ revision: 0, documents: 9_900, head: { seq: 0 } });
    await node.put('after', 1);
  });
});

describe('the work of a batch', () => {
  it('is counted in bytes that it rewrites: later commits are deferred, in order', async () => {
    await call([put('large', { text: 'x'.repeat(100_000) }), put('small', 2)]);
    const small = { ...options, max_batch_work_bytes: 250_000 };
    const patches = [1, 2, 3, 4].map((n) => merge('large', { n }));
    expect(statuses(await call([...patches, put('small', 3)], small))).toEqual([
      'committed',
      'committed',
      'deferred',
      'deferred',
      'deferred',
    ]);
    expect(await node.state()).toMatchObject({ large: { n: 2 }, small: 2 });
  });

  it('of one commit alone is refused above its limit, without a look at the documents', async () => {
    await insertDocuments(14, `'doc-' || n`, 'x'.repeat(8 * MiB - 100));
    const changes = Array.from({ length: 14 }, (_, n) => {
      return { op: 'merge' as const, name: `doc-${n + 1}`, json: '{"x":1}' };
    });
    const touched = node.commit({ action: 'state.patch', changes });
    await expect(touched).rejects.toMatchObject({ code: 'commit_too_costly', status: 422 });
    expect(await node.store.readHead()).toMatchObject({ revision: 0 });
  });

  it('counts the levels of merge patches, because many small deep ones take longer than many bytes', async () => {
    const patchAll = (count: number, depth: number) => {
      const json = `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`;
      const changes = Array.from({ length: count }, (_, n) => ({ op: 'merge' as const, name: `doc-${n}`, json }));
      return outcomeOf(node.commit({ action: 'state.patch', changes }));
    };
    expect(await patchAll(5_000, 20)).toBe('commit_too_costly');
    expect(await patchAll(800, 128)).toBe('commit_too_costly');
    expect(await node.store.readHead()).toMatchObject({ revision: 0 });
    expect(await patchAll(10, 128)).toBe('made');
    expect(await patchAll(5_000, 1)).toBe('made');
  });

  it('asks for a transaction with a timeout if it is large', async () => {
    await call([put('large', 'x'.repeat(100_000))]);
    const small = { ...options, max_untimed_work_bytes: 50_000 };
    const batch = [put('a', 1), merge('large', { n: 1 }), put('b', 1)];
    expect(await call(batch, small)).toMatchObject([
      { status: 'committed' },
      { status: 'deferred', timed: true },
      { status: 'deferred', timed: true },
    ]);
    expect(statuses(await call(batch.slice(1), { ...small, timed: true }))).toEqual(['committed', 'committed']);
  });

  it('has a statement_timeout below the wait of the node if it is large, so that its outcome is known', async () => {
    await node.pool.query(
      `create table seen_timeout (bytes int, value text); grant insert on seen_timeout to public;
       create function note_timeout() returns trigger language plpgsql as
         'begin insert into seen_timeout select new.bytes, current_setting(''statement_timeout''); return null; end';
       create trigger note_timeout after insert on loom_document for each row execute function note_timeout()`,
    );
    try {
      await node.put('small', 1);
      await node.put('large', 'x'.repeat(limits.maxUntimedBatchBytes));
      const { rows } = await node.pool.query('select value from seen_timeout order by bytes');
      expect(rows).toEqual([{ value: '0' }, { value: `${limits.commitStatementTimeoutMs / 1_000}s` }]);
      expect(limits.commitStatementTimeoutMs).toBeLessThan(limits.commitTimeoutMs);
      expect(limits.maxCommitMergeMs).toBeLessThan(limits.commitLockTimeoutMs);
    } finally {
      await node.pool.query('drop trigger note_timeout on loom_document; drop table seen_timeout');
    }
  });

  it('of many patches of one large document is done in several batches, and all are committed', {
    timeout: 60_000,
  }, async () => {
    await node.put('large', { text: 'x'.repeat(8 * MiB - 1_000) });
    const other = await openTestStore(nodes.database.url, { stateKey: node.stateKey });
    try {
      const patches = Array.from({ length: 6 }, (_, n) =>
        node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'large', json: `{"n":${n}}` }] }),
      );
      const others = Array.from({ length: 3 }, (_, n) => other.put('small', n));
      const receipts = await Promise.all(patches);
      expect(receipts.map(({ revision }) => revision)).toEqual(
        receipts.map(({ revision }) => revision).toSorted((one, next) => one - next),
      );
      await Promise.all(others);
    } finally {
      await other.close();
    }
    expect(JSON.parse((await node.store.readDocument('large'))?.text ?? '').n).toBe(5);
    expect(await verify(node)).toMatchObject({ ok: true, entries: 10 });
  });

  it('ends when its time is over', async () => {
    const { length } = await call([put('large', { a: 1 })]);
    expect(length).toBe(1);
    const late = { ...options, max_hold_ms: 0, max_merge_ms: 60_000 };
    expect(statuses(await call([put('a', 1), put('b', 1)], late))).toEqual(['committed', 'deferred']);
    const never = { ...options, max_merge_ms: -1_000 };
    expect(statuses(await call([merge('large', { b: 1 }), put('c', 1)], never))).toEqual([
      'commit_too_costly',
      'committed',
    ]);
    expect(await node.state()).toEqual({ a: 1, c: 1, large: { a: 1 } });
  });

  it('of a PUT of the state that would delete too many documents is found from the counts', async () => {
    await insertDocuments(limits.maxChangesPerCommit + 5, `'doc-' || n`, 'x');
    const replaced = (count: number) => {
      const changes = Array.from({ length: count }, (_, n) => ({
        op: 'put' as const,
        name: `doc-${n + 1}`,
        json: '1',
      }));
      return outcomeOf(node.commit({ action: 'state.put', changes }));
    };
    expect(await replaced(4)).toBe('too_many_changes');
    expect(await replaced(5)).toBe('made');
    expect(await node.store.readHead()).toMatchObject({ documents: 5, revision: 1 });
  });
});

describe('a node of schema version 2', () => {
  it('is deferred never, and gets statuses that it knows', async () => {
    await call([put('large', { text: 'x'.repeat(100_000) }), put('"'.repeat(500), 1)]);
    const patches = Array.from({ length: 400 }, (_, n) => merge('large', { n }));
    expect(tally(statuses(await call(patches.slice(0, 8), optionsOfVersion2)))).toEqual({ committed: 8 });
    const costly = { ...optionsOfVersion2, max_work_bytes: 1_000 };
    expect(statuses(await call(patches.slice(0, 1), costly))).toEqual(['too_many_changes']);
    const keyed = [{ ...put('keyed', 1), idempotency_key: 'key' }];
    expect(statuses(await call(keyed, optionsOfVersion2))).toEqual(['committed']);
    await node.restore(await node.backup());
    expect(statuses(await call(keyed, optionsOfVersion2))).toEqual(['idempotency_key_reused']);
    expect(statuses(await call(keyed))).toEqual(['idempotency_key_outdated']);
  });
});
