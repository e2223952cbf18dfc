import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { mergePatchExamples } from '../../setup/values/merge-patch.ts';

let nodes: TestNodes;
beforeAll(async () => {
  nodes = await openNodes();
});
afterAll(() => nodes.close());

async function merge(name: string, patch: string): Promise<unknown> {
  await nodes.node.commit({ action: 'document.patch', changes: [{ op: 'merge', name, json: patch }] });
  return JSON.parse((await nodes.node.store.readDocument(name))?.text ?? 'undefined');
}

describe('a merge patch', () => {
  it.each(mergePatchExamples)('of %s by %s gives %s', async (original, patch, result) => {
    const { rows } = await nodes.database.pool.query('select loom_merge_patch($1, $2)::text as merged', [
      original,
      patch,
    ]);
    expect(JSON.parse(rows[0].merged)).toEqual(JSON.parse(result));
    await nodes.node.commit({ changes: [{ op: 'put', name: 'example', json: original }] });
    expect(await merge('example', patch)).toEqual(JSON.parse(result));
  });

  it('of a document that does not exist creates it, without its nulls', async () => {
    expect(await merge('new', '{"a":null,"b":{"c":null,"d":[null]}}')).toEqual({ b: { d: [null] } });
  });

  it('distinguishes similar names, and accepts __proto__ and the empty name', async () => {
    await nodes.node.commit({ changes: [{ op: 'put', name: 'odd', json: '{"":1,"a":1,"A":1,"__proto__":{"x":1}}' }] });
    expect(await merge('odd', '{"":2,"a":null,"__proto__":{"y":2}}')).toEqual(
      JSON.parse('{"":2,"A":1,"__proto__":{"x":1,"y":2}}'),
    );
  });

  it('reaches the deepest level that a document may have, and keeps the members beside it', async () => {
    const nested = (leaf: string, beside: string) => `${`{${beside}"a":`.repeat(127)}{${leaf}}${'}'.repeat(127)}`;
    await nodes.node.commit({ changes: [{ op: 'put', name: 'deep', json: nested('"x":1,"y":1', '"b":1,') }] });
    expect(await merge('deep', nested('"x":null,"z":2', ''))).toEqual(JSON.parse(nested('"y":1,"z":2', '"b":1,')));
  });
});
