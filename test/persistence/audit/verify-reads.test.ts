import { afterAll, beforeAll, expect, it } from 'vitest';
import { chainSurvey } from '../../../src/persistence/audit/verify.ts';
import { changesSurvey } from '../../../src/persistence/audit/verify-changes.ts';
import { planLinks, planReads } from '../../../src/persistence/audit/verify-plan.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';

const CHAIN_SURVEY = chainSurvey();
const CHANGES_SURVEY = changesSurvey();
const DOCUMENTS = 1_500;
const ENTRIES = 1_500;
/** Quadratic work would read more than a million. */
const MAX_BUFFERS = 40 * (DOCUMENTS + ENTRIES);

let nodes: TestNodes;
beforeAll(async () => {
  nodes = await openNodes();
  const { node, database } = nodes;
  // PostgreSQL stores an entry of this size outside the row, in hundreds of pieces.
  const changes = Array.from({ length: DOCUMENTS }, (_, index) => {
    const text = Array.from({ length: 8 }, () => Math.random().toString(36)).join('');
    return { op: 'merge' as const, name: `document-${index}`, json: JSON.stringify({ index, text }) };
  });
  await node.commit({ action: 'state.patch', changes });
  await Promise.all(Array.from({ length: ENTRIES }, (_, index) => node.put(`document-${index % 50}`, index)));
  // A state that is new on this server has no statistics. Here, nothing gathers them later.
  await database.pool.query(
    `delete from pg_statistic where starelid in ('loom_audit'::regclass, 'loom_change'::regclass)`,
  );
  await database.pool.query(
    `update pg_class set reltuples = 1, relpages = 1 where relname in ('loom_audit', 'loom_change', 'loom_audit_pkey', 'loom_change_pkey')`,
  );
});
afterAll(() => nodes.close());

async function countBuffers(statement: string, values: unknown[], bytesOfLink: number): Promise<number> {
  const lines = await nodes.database.door().transaction('snapshot', async (connection) => {
    await planReads(connection);
    if (statement === CHAIN_SURVEY) await planLinks(connection, 'default', { entries: ENTRIES + 1, bytesOfLink });
    return connection.rows<{ 'QUERY PLAN': string }>(
      `explain (analyze, buffers, costs off, timing off) ${statement}`,
      values,
    );
  });
  const first = lines.map((line) => line['QUERY PLAN']).find((line) => line.includes('Buffers:')) ?? '';
  const buffers = [...first.matchAll(/(?:hit|read)=(\d+)/g)].reduce((sum, [, count]) => sum + Number(count), 0);
  expect(buffers).toBeGreaterThan(0);
  return buffers;
}

it.each([
  [
    'the changes of an entry',
    `select count(*) from loom_audit a, loom_entry_changes(a.entry) c where a.state_key = $1`,
  ],
  ['the check of the chain', CHAIN_SURVEY],
  ['the check of the changes', CHANGES_SURVEY],
])('%s reads in proportion to the trail, with large entries and without statistics', async (_what, statement) => {
  const values = statement === CHANGES_SURVEY ? ['default', 0] : ['default'];
  // Of links that fit into memory, and of others.
  for (const bytesOfLink of [1, 2 ** 30])
    expect(await countBuffers(statement, values, bytesOfLink)).toBeLessThan(MAX_BUFFERS);
});
