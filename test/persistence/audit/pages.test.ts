import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { LoomError } from '../../../src/errors.ts';
import { limits } from '../../../src/limits.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import type { TestStore } from '../../setup/node/store.ts';

const MiB = 2 ** 20;
const refuse = (): never => {
  throw new LoomError('client_gone', 'The client disconnected.');
};

let nodes: TestNodes;
let node: TestStore;
beforeAll(async () => {
  nodes = await openNodes();
  node = nodes.node;
  // Entries 1 to 4 have 3 MiB each, entry 5 more than a page, and entries 6 and 7 are small.
  for (let index = 0; index < 4; index += 1) await node.put('large', `${index}${'x'.repeat(3 * MiB)}`);
  const half = JSON.stringify('y'.repeat(limits.maxPageBytes / 2));
  const changes = ['a', 'b'].map((name) => ({ op: 'put' as const, name, json: half }));
  await node.commit({ action: 'state.patch', changes });
  for (const value of [6, 7]) await node.put('small', value);
});
afterAll(() => nodes.close());

/** Reads the trail page by page. Returns the seqs of each page and the sizes that were admitted. */
async function readPages(order: 'asc' | 'desc', limit = 100) {
  const pages: number[][] = [];
  const admitted: number[] = [];
  for (let next: number | null = order === 'asc' ? 0 : 1_000; next !== null; ) {
    const side = order === 'asc' ? { after: next } : { before: next };
    const page = await node.store.readAudit({ ...side, order, limit }, (bytes) => void admitted.push(bytes));
    pages.push(page.entries.map(({ seq }) => seq));
    const bytes = page.entries.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0);
    if (bytes > limits.smallTextBytes) expect(admitted.at(-1)).toBe(bytes);
    next = page.next;
  }
  return { pages, admitted };
}

describe('a page of the audit trail', () => {
  test('ends before the entry that would make it too long, and has at least one', async () => {
    const { pages, admitted } = await readPages('asc');
    expect(pages).toEqual([[1, 2], [3, 4], [5], [6, 7]]);
    expect(admitted).toHaveLength(3);
    expect((await readPages('desc')).pages).toEqual([[7, 6], [5], [4, 3], [2, 1]]);
    expect((await readPages('asc', 1)).pages).toEqual([[1], [2], [3], [4], [5], [6], [7]]);
  });

  test('of the entries of one document or action is bounded in the same way', async () => {
    const large = await node.store.readAudit({ order: 'asc', limit: 3, document: 'large', after: 1 });
    expect([large.entries.map(({ seq }) => seq), large.next]).toEqual([[2, 3], 3]);
    const patch = await node.store.readAudit({ order: 'desc', limit: 3, action: 'state.patch' });
    expect([patch.entries.map(({ seq }) => seq), patch.next]).toEqual([[5], null]);
  });

  test('that is long is not read when there is no memory for it, and a short one needs none', async () => {
    await expect(node.store.readAudit({ order: 'asc', limit: 1 }, refuse)).rejects.toMatchObject({
      code: 'client_gone',
    });
    expect((await node.store.readAudit({ order: 'asc', limit: 9, after: 5 }, refuse)).entries).toHaveLength(2);
    expect((await node.store.readAudit({ order: 'asc', limit: 9, after: 7 }, refuse)).entries).toEqual([]);
  });
});

test('a long document is not read when there is no memory for it, and a short one needs none', async () => {
  const admitted: number[] = [];
  const document = await node.store.readDocument('large', (bytes) => void admitted.push(bytes));
  expect(admitted).toEqual([Buffer.byteLength(document?.text ?? '')]);
  await expect(node.store.readDocument('large', refuse)).rejects.toMatchObject({ code: 'client_gone' });
  expect((await node.store.readDocument('small', refuse))?.text).toBe('7');
  // While other requests use the memory, the read waits for it.
  let attempts = 0;
  const admitThird = (): void => {
    attempts += 1;
    if (attempts < 3) throw new LoomError('node_busy', 'No memory.');
  };
  expect((await node.store.readDocument('large', admitThird))?.text).toBe(document?.text);
  expect(attempts).toBe(3);
  expect(await node.store.readDocument('missing', refuse)).toBeUndefined();
});
