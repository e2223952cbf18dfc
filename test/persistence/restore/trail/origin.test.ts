import { afterEach, beforeEach, expect, it } from 'vitest';
import type { ParsedBackup } from '../../../setup/backup/chain.ts';
import { openNodes, type TestNodes } from '../../../setup/node/nodes.ts';

let nodes: TestNodes;
let others: TestNodes;
beforeEach(async () => {
  nodes = await openNodes();
  // Databases of the tests are clones of one, with its id.
  others = await openNodes();
  await others.database.pool.query(
    `update loom_meta set value = to_jsonb(gen_random_uuid()) where key = 'instance_id'`,
  );
});
afterEach(async () => {
  await others.close();
  await nodes.close();
});

it('a restore, its plan, and a restore into a scratch state name both databases and states', async () => {
  await others.node.put('a', 1);
  await nodes.node.put('b', 1);
  await nodes.node.put('b', 2);
  const own = await nodes.node.backup();
  const foreign = await others.node.backup();
  for (const [text, instance_differs] of [
    [own, false],
    [foreign, true],
  ] as const) {
    const { instance_id, state_key, revision, exported_at, schema_version }: ParsedBackup = JSON.parse(text);
    const expected = {
      backup: { instance_id, state_key, revision, version: 1, schema_version, taken_at: exported_at },
      live: { instance_id: JSON.parse(own).instance_id, state_key: 'default', revision: 2 },
      instance_differs,
    };
    expect(await nodes.node.restore(text, { dry_run: true })).toMatchObject(expected);
    expect(await nodes.node.restore(text, { into_scratch: `trial ${instance_differs}` })).toMatchObject(expected);
  }
  expect(await nodes.node.restore(foreign)).toMatchObject({ live: { revision: 2 }, instance_differs: true });
  expect(await nodes.node.restore(own, { dry_run: true })).toMatchObject({ live: { revision: 3 } });
});

it('a backup that lacks these members is reported as of unknown origin', async () => {
  const backup = '{"loom_backup_version":1,"state":{"a":1}}';
  expect(await nodes.node.restore(backup, { accept_unverified: true, dry_run: true })).toMatchObject({
    backup: { instance_id: null, state_key: null, version: 1, schema_version: null, taken_at: null, revision: null },
    instance_differs: null,
  });
});
