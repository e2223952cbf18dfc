import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import type { Precondition } from '../../../src/domain/commit.ts';
import { openNodes, outcomeOf, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';

let nodes: TestNodes;
let node: TestStore;
let states = 0;
const opened: TestStore[] = [];
beforeAll(async () => {
  nodes = await openNodes();
});
beforeEach(async () => {
  states += 1;
  node = await openTestStore(nodes.database.url, { stateKey: `state-${states}`, maxDocumentBytes: 1_000 });
  opened.push(node);
});
afterAll(async () => {
  await Promise.all(opened.map((one) => one.close()));
  await nodes.close();
});

describe('a precondition', () => {
  const put = (precondition: Precondition) =>
    node.commit({ precondition, changes: [{ op: 'put', name: 'doc', json: '2' }] });

  it('If-Match is met by the current tag, alone or in a list, and by *', async () => {
    const { epoch, revision } = await node.put('doc', 1);
    const old = `${epoch}.${revision}`;
    const { revision: second } = await put({ document: 'doc', ifMatch: [old] });
    await expect(put({ document: 'doc', ifMatch: [old] })).rejects.toMatchObject({
      code: 'precondition_failed',
      currentEtag: `"${epoch}.${second}"`,
      place: { document: 'doc' },
    });
    const { revision: third } = await put({ document: 'doc', ifMatch: ['x', old, `${epoch}.${second}`] });
    await put({ document: 'doc', ifMatch: '*' });
    expect(third).toBe(second + 1);
    // The same revision in another epoch does not match.
    expect(await outcomeOf(put({ document: 'doc', ifMatch: [`other.${third + 1}`] }))).toBe('precondition_failed');
  });

  it('If-Match is never met by a document that does not exist', async () => {
    await node.put('another', 1);
    await expect(put({ document: 'doc', ifMatch: '*' })).rejects.toMatchObject({
      code: 'precondition_failed',
      currentEtag: null,
    });
    expect(await outcomeOf(put({ document: 'doc', ifMatch: ['a.1'] }))).toBe('precondition_failed');
    expect(await node.state()).toEqual({ another: 1 });
  });

  it('If-None-Match is met as long as no tag matches', async () => {
    const { epoch, revision } = await put({ document: 'doc', ifNoneMatch: '*' });
    expect(await outcomeOf(put({ document: 'doc', ifNoneMatch: '*' }))).toBe('precondition_failed');
    expect(await outcomeOf(put({ document: 'doc', ifNoneMatch: ['x', `${epoch}.${revision}`] }))).toBe(
      'precondition_failed',
    );
    expect(await outcomeOf(put({ document: 'doc', ifNoneMatch: [`${epoch}.9`] }))).toBe('made');
    expect(await outcomeOf(put({ document: 'new', ifNoneMatch: ['x'] }))).toBe('made');
  });

  it('on the state compares the revision of the state', async () => {
    await node.put('other', 1);
    const { epoch, revision } = await node.put('doc', 1);
    expect(await outcomeOf(put({ document: null, ifMatch: [`${epoch}.${revision - 1}`] }))).toBe('precondition_failed');
    expect(await outcomeOf(put({ document: null, ifMatch: [`${epoch}.${revision}`] }))).toBe('made');
    expect(await outcomeOf(put({ document: null, ifMatch: '*' }))).toBe('made');
    expect(await outcomeOf(put({ document: null, ifNoneMatch: '*' }))).toBe('precondition_failed');
  });
});

describe('commits of one batch', () => {
  it('that fail leave nothing behind, and the other commits succeed', async () => {
    await node.put('big', { a: 'x'.repeat(900) });
    const outcomes = await Promise.all(
      [
        node.put('first', 1),
        node.commit({
          action: 'document.delete',
          changes: [
            { op: 'put', name: 'never', json: '1' },
            { op: 'delete', name: 'absent' },
          ],
        }),
        node.put('second', 2),
        node.commit({
          action: 'state.patch',
          changes: [
            { op: 'put', name: 'never', json: '1' },
            { op: 'merge', name: 'big', json: JSON.stringify({ b: 'y'.repeat(200) }) },
          ],
        }),
        node.commit({ precondition: { document: 'absent', ifMatch: '*' }, changes: [{ op: 'delete', name: 'first' }] }),
        node.put('third', 3),
      ].map(outcomeOf),
    );
    expect(outcomes).toEqual([
      'made',
      'document_not_found',
      'made',
      'document_too_large',
      'precondition_failed',
      'made',
    ]);
    expect(await node.state()).toEqual({ big: { a: 'x'.repeat(900) }, first: 1, second: 2, third: 3 });
    expect(await node.store.readHead()).toMatchObject({ revision: 4, documents: 4, head: { seq: 4 } });
    expect(await verify(node)).toMatchObject({ ok: true, entries: 4 });
  });

  it('see the changes of the commits before them', async () => {
    const outcomes = await Promise.all(
      [
        node.commit({
          precondition: { document: 'a', ifNoneMatch: '*' },
          changes: [{ op: 'put', name: 'a', json: '{"x":1}' }],
        }),
        node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'a', json: '{"y":2}' }] }),
        node.commit({
          precondition: { document: 'a', ifNoneMatch: '*' },
          changes: [{ op: 'put', name: 'a', json: '3' }],
        }),
      ].map(outcomeOf),
    );
    expect(outcomes).toEqual(['made', 'made', 'precondition_failed']);
    expect(await node.state()).toEqual({ a: { x: 1, y: 2 } });
  });

  it('fail alone: one that PostgreSQL refuses does not fail the others', async () => {
    // A route refuses such a commit earlier.
    const poison = node.commit({ changes: [{ op: 'put', name: 'poison', json: '"\\u0000"' }] });
    const outcomes = await Promise.all([node.put('a', 1), poison, node.put('b', 2), node.put('c', 3)].map(outcomeOf));
    expect(outcomes).toEqual(['made', 'internal', 'made', 'made']);
    expect(await node.state()).toEqual({ a: 1, b: 2, c: 3 });
    expect(await verify(node)).toMatchObject({ ok: true, entries: 3 });
  });
});

describe('a commit of the whole state', () => {
  it('by put removes the other documents and records their deletion', async () => {
    await node.put('keep', 1);
    await node.put('gone-1', 1);
    await node.put('gone-2', 1);
    await node.commit({
      action: 'state.put',
      changes: [
        { op: 'put', name: 'keep', json: '2' },
        { op: 'put', name: 'new', json: '3' },
      ],
    });
    expect(await node.state()).toEqual({ keep: 2, new: 3 });
    const { entries } = await node.store.readAudit({ limit: 1, order: 'desc' });
    expect(JSON.parse(entries[0]?.text ?? '')).toMatchObject({
      action: 'state.put',
      changes: [
        { op: 'put', name: 'keep', value: 2 },
        { op: 'put', name: 'new', value: 3, created: true },
        { op: 'delete', name: 'gone-1' },
        { op: 'delete', name: 'gone-2' },
      ],
    });
    await node.commit({ action: 'state.put', changes: [] });
    expect(await node.store.readHead()).toMatchObject({ documents: 0, bytes: 0, revision: 5 });
  });

  it('by patch may delete absent documents', async () => {
    await node.put('a', 1);
    await node.commit({
      action: 'state.patch',
      changes: [
        { op: 'delete', name: 'absent' },
        { op: 'delete', name: 'a' },
        { op: 'merge', name: 'b', json: '{"c":null}' },
      ],
    });
    expect(await node.state()).toEqual({ b: {} });
    const { entries } = await node.store.readAudit({ limit: 1, order: 'desc' });
    expect(JSON.parse(entries[0]?.text ?? '').changes.map((one: { name: string }) => one.name)).toEqual(['a', 'b']);
  });
});

describe('an Idempotency-Key', () => {
  it('belongs to one change: another, or another action, is refused', async () => {
    const send = (json: string, action: 'document.put' | 'state.patch' = 'document.put') =>
      node.commit({ action, idempotencyKey: 'key', changes: [{ op: 'put', name: 'a', json }] });
    const receipt = await send('{"x":1,"y":[1]}');
    expect(receipt).toMatchObject({ replayed: false, created: true });
    // The same value in another spelling.
    expect(await send('{ "y": [1], "x": 1 }')).toEqual({ ...receipt, replayed: true });
    expect(await outcomeOf(send('2'))).toBe('idempotency_key_reused');
    expect(await outcomeOf(send('{"x":1,"y":[1]}', 'state.patch'))).toBe('idempotency_key_reused');
    expect(await node.store.readHead()).toMatchObject({ revision: 1 });
  });

  it('is not used up by a failed commit', async () => {
    const remove = () =>
      node.commit({ action: 'document.delete', idempotencyKey: 'key', changes: [{ op: 'delete', name: 'a' }] });
    expect(await outcomeOf(remove())).toBe('document_not_found');
    await node.put('a', 1);
    expect(await outcomeOf(remove())).toBe('made');
  });

  it('returns the first receipt although the precondition is no longer met', async () => {
    const create = () =>
      node.commit({
        idempotencyKey: 'create',
        precondition: { document: 'a', ifNoneMatch: '*' },
        changes: [{ op: 'put', name: 'a', json: '1' }],
      });
    const first = await create();
    await node.put('a', 2);
    expect(await create()).toEqual({ ...first, replayed: true });
    expect(await node.state()).toEqual({ a: 2 });
  });
});

describe('the audit table', () => {
  it.each(['update loom_audit set action = action', 'delete from loom_audit', 'truncate loom_audit'])(
    'refuses: %s',
    async (statement) => {
      await node.put('a', 1);
      await expect(nodes.database.pool.query(statement)).rejects.toMatchObject({ code: '42501' });
      expect(await verify(node)).toMatchObject({ ok: true, entries: 1 });
    },
  );
});

it('a row that somebody has inserted into the index of changes by hand is replaced by that of the commit', async () => {
  const { pool } = nodes.database;
  await pool.query(`insert into loom_change (state_key, name, seq, revision, op) values ($1, 'a', 1, 9, 'delete')`, [
    node.stateKey,
  ]);
  await node.put('a', 1);
  const { rows } = await pool.query(
    `select seq::int, revision::int, op, sha256 = loom_value_sha256('1') as matches from loom_change where state_key = $1`,
    [node.stateKey],
  );
  expect(rows).toEqual([{ seq: 1, revision: 1, op: 'put', matches: true }]);
});
