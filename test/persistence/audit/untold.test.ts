import { afterAll, beforeAll, expect, test } from 'vitest';
import { type EarlierVersion, earlierVersions, openEarlierStore } from '../../setup/node/earlier-store.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { verify } from '../../setup/node/store.ts';
import { verifyBySql } from '../../setup/server/verify-sql.ts';

/** Nodes of later versions record what a restore changes. */
const silentVersions = earlierVersions.filter((version) => version < 4);

let nodes: TestNodes[];
beforeAll(async () => {
  nodes = await Promise.all(silentVersions.map(() => openNodes()));
});
afterAll(() => Promise.all(nodes.map((one) => one.close())));

/** Returns the verdict of LOOM. That of the plain statement must be the same. */
async function judge({ node, database }: TestNodes) {
  const verdict = await verify(node);
  expect(await verifyBySql(database.pool)).toMatchObject({ ok: verdict.ok });
  return verdict;
}

async function restoreByEarlierNode(version: EarlierVersion, site: TestNodes): Promise<void> {
  const earlier = await openEarlierStore(version, site.database.url);
  const backup = await earlier.backup();
  await earlier.put('b', 'later');
  await earlier.restore(backup);
  await earlier.close();
}

test.each(silentVersions)(
  'a restore by a node of schema %d leaves documents untold, not broken, until their next change',
  async (version) => {
    const site = nodes[silentVersions.indexOf(version)];
    if (site === undefined) throw new Error('each version has a database');
    const { node, database } = site;
    for (const name of ['a', 'b', 'c']) await node.put(name, { first: 1 });
    expect(await judge(site)).toMatchObject({ ok: true, told_from_seq: 1, untold_documents: 0 });
    await restoreByEarlierNode(version, site);
    expect(await judge(site)).toMatchObject({ ok: true, told_from_seq: 6, untold_documents: 3 });

    const merge = (name: string) =>
      node.commit({ action: 'document.patch', changes: [{ op: 'merge', name, json: '{"second":{"x":2}}' }] });
    await merge('b');
    await merge('b');
    await node.put('c', { first: 1 });
    await merge('c');
    expect(await judge(site)).toMatchObject({ ok: true, told_from_seq: 6, untold_documents: 1 });

    const swap = (name: string) =>
      database.pool.query(`update loom_document set value = value || '{"first": 9}' where name = $1`, [name]);
    await swap('a');
    expect(await judge(site)).toMatchObject({ ok: true, untold_documents: 1 });
    await swap('b');
    expect(await judge(site)).toMatchObject({ ok: false, document: 'b', mismatch_count: 1, untold_documents: 1 });
    await node.commit({ action: 'state.put', changes: [{ op: 'put', name: 'only', json: '1' }] });
    expect(await judge(site)).toMatchObject({ ok: true, told_from_seq: 6, untold_documents: 0 });
  },
);
