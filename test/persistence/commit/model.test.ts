import fc from 'fast-check';
import { afterAll, beforeAll, expect, it } from 'vitest';
import type { Change, CommitAction } from '../../../src/domain/commit.ts';
import { rounds } from '../../setup/depth.ts';
import { openNodes, outcomeOf, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { mergePatch } from '../../setup/values/merge-patch.ts';

/** Models LOOM in a few lines: commits on a map of parsed documents. */
type Model = Map<string, unknown>;

interface ModelCommit {
  action: CommitAction;
  changes: Change[];
}

const names = ['a', 'b', 'c', '__proto__', 'ü/🧵', '\\.'];
const name = fc.constantFrom(...names);
const value = fc.jsonValue({ maxDepth: 2, stringUnit: 'grapheme-composite' }).map((one) => JSON.stringify(one));
const patch = fc
  .dictionary(fc.constantFrom('x', 'y', 'z'), fc.oneof(fc.constant(null), fc.jsonValue({ maxDepth: 1 })))
  .map((one) => JSON.stringify(one));
const put = fc.record({ op: fc.constant('put' as const), name, json: value });
const merge = fc.record({ op: fc.constant('merge' as const), name, json: patch });
const remove = fc.record({ op: fc.constant('delete' as const), name });
const distinct = { selector: (change: Change) => change.name, maxLength: 4 };

const commit: fc.Arbitrary<ModelCommit> = fc.oneof(
  put.map((change): ModelCommit => ({ action: 'document.put', changes: [change] })),
  merge.map((change): ModelCommit => ({ action: 'document.patch', changes: [change] })),
  remove.map((change): ModelCommit => ({ action: 'document.delete', changes: [change] })),
  fc
    .uniqueArray(fc.oneof(put, merge, remove), distinct)
    .map((changes): ModelCommit => ({ action: 'state.patch', changes })),
  fc.uniqueArray(put, distinct).map((changes): ModelCommit => ({ action: 'state.put', changes })),
);

/** Applies the commit to the model, if it must succeed, and returns the expected outcome. */
function applyTo(model: Model, { action, changes }: ModelCommit): string {
  const missing = changes.some((change) => change.op === 'delete' && !model.has(change.name));
  if (missing && action === 'document.delete') return 'document_not_found';
  if (action === 'state.put') model.clear();
  for (const change of changes) {
    if (change.op === 'delete') model.delete(change.name);
    else if (change.op === 'put') model.set(change.name, JSON.parse(change.json));
    else model.set(change.name, mergePatch(model.get(change.name), JSON.parse(change.json)));
  }
  return 'made';
}

let nodes: TestNodes;
beforeAll(async () => {
  nodes = await openNodes();
});
afterAll(() => nodes.close());

/** Rebuilds the state from the audit trail alone. */
async function replay(node: TestStore): Promise<Model> {
  const model: Model = new Map();
  const { entries } = await node.store.readAudit({ limit: 1_000, order: 'asc' });
  for (const { text } of entries) {
    const { action, changes } = JSON.parse(text) as {
      action: CommitAction;
      changes: { op: Change['op']; name: string; value?: unknown }[];
    };
    // The entry of a `state.put` also lists the deletions, so that no clearing is needed.
    applyTo(model, {
      action: action === 'state.put' ? 'state.patch' : action,
      changes: changes.map(
        (change) => ({ op: change.op, name: change.name, json: JSON.stringify(change.value) }) as Change,
      ),
    });
  }
  return model;
}

async function truth(stateKey: string) {
  const { rows } = await nodes.database.pool.query(
    `select s.documents::int, s.bytes::int, count(d.name)::int as true_documents,
            coalesce(sum(octet_length(d.value::text)), 0)::int as true_bytes, coalesce(max(d.revision), 0)::int as newest
       from loom_state s left join loom_document d using (state_key) where s.state_key = $1 group by s.state_key`,
    [stateKey],
  );
  return rows[0];
}

it('random commits lead to the state, revisions, counters and trail of a simple model', async () => {
  let runs = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(commit, { minLength: 1, maxLength: 25 }), async (commits) => {
      runs += 1;
      const node = await openTestStore(nodes.database.url, { stateKey: `run-${runs}`, poolMax: 2 });
      try {
        const model: Model = new Map();
        const expected = commits.map((one) => applyTo(model, one));
        expect(await Promise.all(commits.map((one) => outcomeOf(node.commit(one))))).toEqual(expected);

        const made = expected.filter((outcome) => outcome === 'made').length;
        const head = await node.store.readHead();
        expect(head).toMatchObject({ revision: made, head: { seq: made }, documents: model.size });
        expect(new Map(Object.entries(await node.state()))).toEqual(model);
        const { documents, bytes, true_documents, true_bytes, newest } = await truth(node.stateKey);
        expect({ documents, bytes }).toEqual({ documents: true_documents, bytes: true_bytes });
        expect(newest).toBeLessThanOrEqual(made);
        expect(await verify(node)).toMatchObject({ ok: true, entries: made });
        expect(await replay(node)).toEqual(model);
      } finally {
        await node.close();
      }
    }),
    { numRuns: rounds({ quick: 12, full: 40 }) },
  );
});
