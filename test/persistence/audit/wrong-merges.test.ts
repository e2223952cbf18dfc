import { afterAll, beforeAll, expect, it } from 'vitest';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';

let nodes: TestNodes;
beforeAll(async () => {
  nodes = await openNodes();
  const { node } = nodes;
  for (const name of ['a', 'b', 'c']) await node.put(name, { text: 'x' });
  for (let index = 0; index < 10; index += 1) {
    await node.commit({ changes: [{ op: 'merge', name: 'ab'.charAt(index % 2), json: `{"n":{"m":${index}}}` }] });
  }
});
afterAll(() => nodes.close());

/** Copies the trail to a state of which the statistics know nothing. PostgreSQL then expects a single entry. */
const copyToOther = `
  analyze loom_audit;
  analyze loom_change;
  insert into loom_audit (state_key, seq, event_id, idempotency_key, recorded_at, action, entry, hash)
  select 'other', seq, event_id, idempotency_key, recorded_at, action, entry, hash from loom_audit;
  insert into loom_change select 'other', name, seq, revision, op, sha256 from loom_change`;

it.each(['null', '5', '"x"', 'true', '{}', '[5, null]'])(
  'merges are checked although another entry has %s as its changes, whatever plan PostgreSQL chooses',
  async (changes) => {
    const client = await nodes.node.pool.connect();
    try {
      await client.query('begin');
      await client.query('alter table loom_audit disable trigger user');
      await client.query(copyToOther);
      await client.query(`update loom_audit set entry = jsonb_set(entry, '{changes}', $1) where seq = 3`, [changes]);
      for (const stateKey of ['default', 'other']) {
        const { rows } = await client.query(`select * from loom_wrong_merges($1, '{}', false, 0, 1)`, [stateKey]);
        expect(rows).toEqual([]);
      }
    } finally {
      await client.query('rollback');
      client.release();
    }
  },
);
