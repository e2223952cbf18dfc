import { afterEach, beforeEach, expect, it } from 'vitest';
import { entryText, writeBackup } from '../../../setup/backup/written-backup.ts';
import { openNodes, type TestNodes } from '../../../setup/node/nodes.ts';
import { spellOddly } from '../../../setup/values/json-samples.ts';

let nodes: TestNodes;
beforeEach(async () => {
  nodes = await openNodes();
});
afterEach(() => nodes.close());

const sha256 = 'ab'.repeat(32);
const changes = [
  [{ op: 'put', name: 'a', value: 1 }],
  [{ op: 'put', name: 'a', value: { b: [1, 2] }, sha256, revision: 1 }],
  [{ op: 'merge', name: 'é "quoted" \\', value: {}, sha256 }],
  [{ op: 'delete', name: 'a' }],
  [
    { op: 'put', name: 'twice', value: 1, sha256 },
    { op: 'delete', name: 'twice' },
  ],
  [{ op: 'put', name: 'a\u0007\n', value: 1, sha256 }],
  [{ op: 'move', name: 'a' }, null, { op: 'put', name: 'b', value: null }],
  [],
];

/** Entries of every form that a verified backup can have, also by hand. */
const entries = [
  ...changes.map((list, index) => entry(index + 1, { action: 'document.put' }, list)),
  entry(9, { action: '\u0001\u0002\n', idempotency_key: 'plain' }),
  entry(10, { action: '', idempotency_key: '\u0001\\"' }),
  entry(11, { action: '\\N', idempotency_key: 'é\u007f' }),
  entry(12, { action: 'x'.repeat(10_000), idempotency_key: '\\x00' }),
  entry(13, { action: 'restore', restore: {} }),
  entry(14, { action: 'restore', restore: {} }, [{ op: 'put', name: 'a', value: 1, sha256 }]),
  entry(15, { action: 'restore', restore: { recorded_changes: 1 } }),
];

function entry(
  seq: number,
  { action, ...more }: { action: string; [name: string]: unknown },
  list: unknown[] = [],
): string {
  return entryText(seq, { action, changes: JSON.stringify(list), more });
}

const written = writeBackup({ documents: [['a', '{}']], entries });

it.each([
  ['as LOOM writes it', written],
  ['in another spelling', spellOddly(JSON.parse(written), 5)],
])('an adopted trail has the columns and the index that its entries give, from a backup %s', async (_what, backup) => {
  const report = await nodes.node.restore(backup);
  expect(report.audit).toMatchObject({ adopted: entries.length, imported: 0 });
  const { rows: wrong } = await nodes.database.pool.query(
    `select seq from loom_audit
      where seq::text is distinct from entry ->> 'seq' or event_id is distinct from (entry ->> 'event_id')::uuid
         or idempotency_key is distinct from entry ->> 'idempotency_key' or action is distinct from entry ->> 'action'
         or recorded_at is distinct from (entry ->> 'recorded_at')::timestamptz or entry ? 'hash'`,
  );
  expect(wrong).toEqual([]);
  const indexed = `select * from loom_change where state_key = 'default' order by name, seq`;
  const { rows: kept } = await nodes.database.pool.query(indexed);
  await nodes.database.pool.query(`select loom_rebuild_changes('default')`);
  const { rows: rebuilt } = await nodes.database.pool.query(indexed);
  expect(kept).toEqual(rebuilt);
  expect(rebuilt.map(({ name }) => name)).toContain('');
});
