import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ParsedBackup, relink } from '../../setup/backup/chain.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { verify } from '../../setup/node/store.ts';

const statement = await readFile(new URL('../../../docs/verify-chain.sql', import.meta.url), 'utf8');
const repair = await readFile(new URL('../../../docs/repair-state.sql', import.meta.url), 'utf8');

let site: TestNodes;
let other: TestNodes;
beforeAll(async () => {
  [site, other] = await Promise.all([openNodes(), openNodes()]);
});
afterAll(() => Promise.all([site.close(), other.close()]));

/** Returns the seqs and details of all mismatches. The plain statement must find the same seqs. */
async function judge({ node, database }: TestNodes): Promise<{ seqs: (number | undefined)[]; details: string[] }> {
  const verdict = await verify(node);
  const mismatches = verdict.ok ? [] : verdict.mismatches;
  const seqs = mismatches.map(({ seq }) => seq);
  const { rows: plain } = await database.pool.query(statement);
  expect(plain).toMatchObject([{ ok: verdict.ok, mismatches: seqs.map((seq) => ({ seq, reason: 'state_mismatch' })) }]);
  if (!verdict.ok) expect(verdict).toMatchObject({ first_bad_seq: null, reason: 'state_mismatch' });
  return { seqs, details: mismatches.map(({ detail }) => detail) };
}

const edit = ({ database }: TestNodes, assignment: string): Promise<unknown> =>
  database.pool.query(`update loom_state set ${assignment}`);

test('an edited revision or epoch of the state row is found at the entry that continues it', async () => {
  const { node } = site;
  await edit(site, 'revision = 4');
  await node.put('a', 1);
  await node.put('a', 2);
  const backup = await node.backup();
  await edit(site, `epoch = 'edited', revision = revision - 1`);
  await node.put('b', 1);
  await edit(site, 'revision = revision + 1');
  await node.restore(backup, { replace_state: false });
  await edit(site, 'revision = revision + 5');
  await node.undo();
  await node.put('b', 2);
  const { seqs, details } = await judge(site);
  expect(seqs).toEqual([1, 3, 4, 5]);
  expect(details).toEqual([
    'Entry 1 shows that the state row had the revision 4 instead of 0, as no entry came before it. Someone changed the row between them.',
    expect.stringMatching(
      /^Entry 3 .* the revision 5 instead of 6 and the epoch edited instead of \S{10}, as entry 2 came/,
    ),
    expect.stringMatching(/^Entry 4 .* the revision 7 instead of 6, as entry 3 came before it/),
    expect.stringMatching(/^Entry 5 .* the revision 13 instead of 8, as entry 4 came before it/),
  ]);
});

test('restores, imports, a row that repair-state.sql made, and a restore after an edit continue the trail', async () => {
  const { node, database } = other;
  for (const name of ['a', 'b']) await node.put(name, 1);
  const early = await node.backup();
  await node.restore(await site.node.backup());
  await node.put('c', 1);
  await node.undo();
  await database.pool.query('delete from loom_state');
  await database.pool.query(repair);
  await node.put('d', 1);
  expect((await judge(other)).seqs).toEqual([]);
  await edit(other, `revision = revision + 2, epoch = 'edited'`);
  await node.restore(early);
  await node.put('e', 1);
  expect((await judge(other)).seqs).toEqual([]);
  await node.restore(early, { truncate_audit: true });
  await node.put('e', 1);
  expect((await judge(other)).seqs).toEqual([]);
});

test('adopted entries can have any revision, and the entries after them continue the restore', async () => {
  const made = await openNodes();
  try {
    for (const name of ['a', 'b', 'c']) await made.node.put(name, 1);
    const backup = JSON.parse(await made.node.backup()) as ParsedBackup;
    for (const [index, entry] of backup.audit_entries.entries()) entry.revision = 9 - index;
    const target = await openNodes();
    try {
      await target.node.restore(JSON.stringify(relink(backup)));
      await target.node.put('d', 1);
      expect((await judge(target)).seqs).toEqual([]);
      await edit(target, 'revision = revision + 1');
      await target.node.put('d', 2);
      expect((await judge(target)).seqs).toEqual([7]);
    } finally {
      await target.close();
    }
  } finally {
    await made.close();
  }
});
