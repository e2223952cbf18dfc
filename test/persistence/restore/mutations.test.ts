import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { printTree, treeOf } from '../../setup/backup/json-tree.ts';
import { mutate } from '../../setup/backup/mutations.ts';
import { openNodes, outcomeOf, type TestNodes } from '../../setup/node/nodes.ts';
import { digestTables } from '../../setup/server/digest.ts';
import { oddDocument } from '../../setup/values/odd-documents.ts';
import { createRandom, createSeed, type Random } from '../../setup/values/random.ts';

let nodes: TestNodes;
let text: string;
let before: string;

beforeAll(async () => {
  nodes = await openNodes();
  const { node } = nodes;
  await node.put('odd', { ...JSON.parse(oddDocument(1)), filler: '' });
  await node.put('b/ü', 'text');
  await node.commit({ idempotencyKey: 'key', changes: [{ op: 'put', name: 'gone', json: '[0.5,true,null]' }] });
  await node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'gone' }] });
  for (const name of ['a', 'b', 'c']) await node.put(name, { list: [1, 2, 2], same: 'x' });
  text = await node.backup();
  await node.put('a', 'as it is now');
  before = await digestTables(nodes.database.pool);
});
afterAll(() => nodes.close());

const unchanged = async (): Promise<void> => expect(await digestTables(nodes.database.pool)).toBe(before);

/** What verify, and what a restore makes of it. */
async function judge(content: Buffer): Promise<{ offline: string; online: string }> {
  const open = async function* () {
    yield content;
  };
  const body = Buffer.concat([Buffer.from('{"confirm":"restore","backup":'), content, Buffer.from('}')]);
  return {
    offline: await outcomeOf(verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION })),
    online: await outcomeOf(nodes.node.restoreBody(body)),
  };
}

/** Codes of a node that is in trouble: none of them says anything of a backup. */
const troubles = new Set(['made', 'internal', 'database_unavailable', 'state_busy', 'restore_in_progress']);

async function expectAllRefused(count: number, mutant: (random: Random) => { what: string; content: Buffer }) {
  const seed = createSeed();
  const random = createRandom(seed);
  const wrong: unknown[] = [];
  const codes = new Set<string>();
  for (let index = 0; index < count; index += 1) {
    const { what, content } = mutant(random);
    const { offline, online } = await judge(content);
    codes.add(online);
    // A brace too many ends the backup: in a file, text stands behind it then, and in a request, its other members.
    const agree = online === offline || online === 'invalid_restore_request';
    if (troubles.has(online) || troubles.has(offline) || !agree) wrong.push({ seed, index, what, online, offline });
    if (index % 50 === 0) await unchanged();
  }
  expect(wrong).toEqual([]);
  await unchanged();
  return codes;
}

it('a backup with any one value, name, member or element changed, 2,000 times, is refused every time', async () => {
  const codes = await expectAllRefused(2_000, (random) => {
    const tree = treeOf(JSON.parse(text));
    const what = mutate(tree, random);
    return { what, content: Buffer.from(printTree(tree)) };
  });
  // Enough of them get past one check to meet the next.
  for (const code of ['backup_digest_mismatch', 'backup_chain_broken', 'backup_malformed', 'backup_count_mismatch'])
    expect(codes).toContain(code);
}, 240_000);

it('a backup with any one byte changed, lost or doubled, 500 times, is refused every time', async () => {
  const parsed: unknown = JSON.parse(text);
  const whole = Buffer.from(text);
  await expectAllRefused(500, (random) => {
    for (;;) {
      const at = random.integer(0, whole.length - 1);
      const [what, content] = spoilByte(whole, at, random);
      if (!saysTheSame(content, parsed)) return { what: `${what} at byte ${at}`, content };
    }
  });
}, 120_000);

function spoilByte(whole: Buffer, at: number, random: Random): [string, Buffer] {
  const [head, byte, tail] = [whole.subarray(0, at), whole.subarray(at, at + 1), whole.subarray(at + 1)];
  const other = Buffer.from([(byte[0] ?? 0) ^ (1 << random.integer(0, 7))]);
  return random.pick<[string, Buffer]>([
    [`${other.toString('hex')} for ${byte.toString('hex')}`, Buffer.concat([head, other, tail])],
    [`${byte.toString('hex')} lost`, Buffer.concat([head, tail])],
    [`${byte.toString('hex')} twice`, Buffer.concat([head, byte, byte, tail])],
  ]);
}

/** A blank more or less, or another spelling of a letter, changes nothing: such a backup is as good as it was. */
function saysTheSame(content: Buffer, parsed: unknown): boolean {
  try {
    return isDeepStrictEqual(JSON.parse(content.toString('utf8')), parsed);
  } catch {
    return false;
  }
}

it('and the backup itself is taken', async () => {
  expect(await judge(Buffer.from(text))).toEqual({ offline: 'made', online: 'made' });
});
