import { afterAll, beforeAll, expect, it } from 'vitest';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';

let nodes: TestNodes;
beforeAll(async () => {
  nodes = await openNodes();
});
afterAll(() => nodes.close());

it('the change of a document stays on its page, even if documents were written there one after the other', async () => {
  const { node, database } = nodes;
  const names = Array.from({ length: 60 }, (_, index) => `doc-${index}`);
  const json = JSON.stringify({ text: 'x'.repeat(900) });
  await node.commit({ changes: names.map((name) => ({ op: 'put', name, json })) });
  const pageOf = async (name: string): Promise<unknown> => {
    const { rows } = await database.pool.query(
      `select split_part(ctid::text, ',', 1) as page from loom_document where state_key = 'default' and name = $1`,
      [name],
    );
    return rows[0]?.page;
  };
  const page = await pageOf('doc-3');
  expect(await pageOf('doc-59')).not.toBe(page);
  await node.commit({ changes: [{ op: 'merge', name: 'doc-3', json: '{"n":1}' }] });
  expect(await pageOf('doc-3')).toBe(page);
});
