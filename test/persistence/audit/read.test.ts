import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { AuditQuery } from '../../../src/domain/audit.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import type { TestStore } from '../../setup/node/store.ts';

let nodes: TestNodes;
let node: TestStore;
beforeAll(async () => {
  nodes = await openNodes();
  node = nodes.node;
  for (let index = 0; index < 10; index += 1) await node.put(index % 2 === 0 ? 'even' : 'odd', index);
  await node.commit({
    action: 'state.patch',
    actor: 'admin',
    requestId: 'request-11',
    changes: [
      { op: 'put', name: 'odd', json: '"both"' },
      { op: 'merge', name: 'quote"d \\ 🧵', json: '{"a":null}' },
    ],
  });
  await node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'even' }] });
});
afterAll(() => nodes.close());

async function seqs(query: Partial<AuditQuery>): Promise<number[]> {
  const page = await node.store.readAudit({ limit: 100, order: 'asc', ...query });
  expect(page.entries.map(({ seq, text: line }) => [seq, JSON.parse(line).seq])).toEqual(
    page.entries.map(({ seq }) => [seq, seq]),
  );
  return page.entries.map(({ seq }) => seq);
}

describe('the audit trail', () => {
  it('has one entry per commit, with actor, action, time and revision', async () => {
    const { entries, head } = await node.store.readAudit({ limit: 1, order: 'asc', after: 10 });
    const { epoch } = await node.store.readHead();
    const entry = JSON.parse(entries[0]?.text ?? '');
    const sha256 = expect.stringMatching(/^[0-9a-f]{64}$/);
    expect(entry).toEqual({
      hash: expect.stringMatching(/^[0-9a-f]{64}$/),
      seq: 11,
      event_id: expect.stringMatching(/^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/),
      recorded_at: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$/),
      action: 'state.patch',
      actor: 'admin',
      request_id: 'request-11',
      revision: 11,
      epoch,
      changes: [
        { op: 'put', name: 'odd', value: 'both', sha256 },
        { op: 'merge', name: 'quote"d \\ 🧵', value: { a: null }, created: true, sha256 },
      ],
    });
    expect(head).toEqual((await node.store.readHead()).head);
  });

  it('is read in either order, from either side', async () => {
    expect(await seqs({ limit: 3 })).toEqual([1, 2, 3]);
    expect(await seqs({ limit: 3, order: 'desc' })).toEqual([12, 11, 10]);
    expect(await seqs({ after: 9 })).toEqual([10, 11, 12]);
    expect(await seqs({ before: 3, order: 'desc' })).toEqual([2, 1]);
    expect(await seqs({ after: 3, before: 6 })).toEqual([4, 5]);
    expect(await seqs({ after: 12 })).toEqual([]);
  });

  it('is read by document and by action, whatever the name of the document', async () => {
    expect(await seqs({ document: 'odd' })).toEqual([2, 4, 6, 8, 10, 11]);
    expect(await seqs({ document: 'even', order: 'desc' })).toEqual([12, 9, 7, 5, 3, 1]);
    expect(await seqs({ document: 'quote"d \\ 🧵' })).toEqual([11]);
    expect(await seqs({ document: 'od' })).toEqual([]);
    expect(await seqs({ action: 'document.delete' })).toEqual([12]);
    expect(await seqs({ action: 'document.put', document: 'even', after: 3 })).toEqual([5, 7, 9]);
  });

  it.each(['asc', 'desc'] as const)('is paged through without loss or repetition: %s', async (order) => {
    const found: number[] = [];
    let next: number | null | undefined;
    do {
      const from = next === undefined || next === null ? {} : order === 'asc' ? { after: next } : { before: next };
      const page = await node.store.readAudit({ limit: 5, order, ...from });
      found.push(...page.entries.map(({ seq }) => seq));
      next = page.next;
    } while (next !== null);
    const all = Array.from({ length: 12 }, (_, index) => index + 1);
    expect(found).toEqual(order === 'asc' ? all : all.reverse());
    expect((await node.store.readAudit({ limit: 12, order })).next).toBeNull();
  });

  it.each<Partial<AuditQuery>>([
    {},
    { order: 'desc', before: 8 },
    { document: 'quote"d \\ 🧵' },
    { action: 'document.put', document: 'odd', after: 4 },
    { since: '2001-01-01T00:00:00Z', until: '2999-01-01T00:00:00Z', after: 2 },
    { document: 'odd', until: '2999-01-01T00:00:00Z', order: 'desc' },
    { document: 'nothing' },
  ])('streams the same entries as it pages: %j', async (query) => {
    const { entries } = await node.store.readAudit({ limit: 100, order: 'asc', ...query });
    const streamed = await text(await node.store.openAudit({ order: 'asc', ...query }));
    expect(streamed).toBe(entries.map((entry) => `${entry.text}\n`).join(''));
  });

  it.each(['{}', '[]', 'null', '"x"', '7'])(
    'is JSON even if a superuser has replaced an entry by %s',
    async (entry) => {
      await nodes.database.pool.query(`begin; set local session_replication_role = replica;
      create table kept as select entry from loom_audit where seq = 3;
      update loom_audit set entry = '${entry}' where seq = 3; commit`);
      try {
        const { entries } = await node.store.readAudit({ limit: 1, order: 'asc', after: 2 });
        expect(JSON.parse(entries[0]?.text ?? '')).toMatchObject({ entry: JSON.parse(entry) });
        const lines = (await text(await node.store.openAudit({ order: 'asc' }))).trimEnd().split('\n');
        expect(lines.map((line) => JSON.parse(line).seq)).toEqual([1, 2, undefined, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
      } finally {
        await nodes.database.pool.query(`begin; set local session_replication_role = replica;
        update loom_audit set entry = (select entry from kept) where seq = 3; drop table kept; commit`);
      }
    },
  );
});
