import { isDeepStrictEqual } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { printTree, treeOf } from '../../setup/backup/json-tree.ts';
import { mutate, mutationKinds } from '../../setup/backup/mutations.ts';
import { rounds, seededRandom, seedLabel } from '../../setup/depth.ts';
import { openNodes, outcomeOf, type TestNodes } from '../../setup/node/nodes.ts';
import { digestTables } from '../../setup/server/digest.ts';
import { oddDocument } from '../../setup/values/odd-documents.ts';
import type { Random } from '../../setup/values/random.ts';

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

/** Returns the outcome of the offline verifier. */
function judgeOffline(content: Buffer): Promise<string> {
  const open = async function* () {
    yield content;
  };
  return outcomeOf(verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION }));
}

/** Returns the outcome of a restore. */
function judgeOnline(content: Buffer): Promise<string> {
  const body = Buffer.concat([Buffer.from('{"confirm":"restore","backup":'), content, Buffer.from('}')]);
  return outcomeOf(nodes.node.restoreBody(body));
}

/** Outcomes other than a verdict on a backup. */
const troubles = new Set(['made', 'internal', 'database_unavailable', 'state_busy', 'restore_in_progress']);

const MUTATIONS = { min: rounds({ quick: 20, full: 2_000 }), max: 2_000 };
const SPOILED_BYTES = { min: rounds({ quick: 10, full: 500 }), max: 500 };

/** Codes that must occur. Each shows that a mutant passes one check and fails the next. */
const wantedCodes = ['backup_digest_mismatch', 'backup_chain_broken', 'backup_malformed', 'backup_count_mismatch'];

/**
 * Judges `min` mutants, and up to `max` until all wanted codes have occurred. After `min`, it restores only the mutants
 * that the offline verifier refuses with a new code.
 */
async function expectAllRefused(
  purpose: string,
  { min, max }: { min: number; max: number },
  wanted: string[],
  mutant: (random: Random, index: number) => { what: string; content: Buffer },
): Promise<void> {
  const random = seededRandom(purpose);
  const wrong: unknown[] = [];
  const codes = new Set<string>();
  const isDone = (): boolean => wanted.every((code) => codes.has(code));
  for (let index = 0; index < max && (index < min || !isDone()); index += 1) {
    const { what, content } = mutant(random, index);
    const offline = await judgeOffline(content);
    if (index >= min && codes.has(offline)) continue;
    const online = await judgeOnline(content);
    codes.add(online);
    // An extra brace ends the backup early. In a file, text follows it; in a request, the other members do.
    const agree = online === offline || online === 'invalid_restore_request';
    if (troubles.has(online) || troubles.has(offline) || !agree) wrong.push({ index, what, online, offline });
    if (index % 50 === 0) await unchanged();
  }
  expect(wrong, seedLabel).toEqual([]);
  expect([...codes], seedLabel).toEqual(expect.arrayContaining(wanted));
  await unchanged();
}

it(`a backup with any one value, name, member or element changed, ${MUTATIONS.min} times, is refused every time`, async () => {
  await expectAllRefused('mutations', MUTATIONS, wantedCodes, (random, index) => {
    const tree = treeOf(JSON.parse(text));
    const what = mutate(tree, mutationKinds[index % mutationKinds.length] ?? '', random);
    return { what, content: Buffer.from(printTree(tree)) };
  });
}, 240_000);

it(`a backup with any one byte changed, lost or doubled, ${SPOILED_BYTES.min} times, is refused every time`, async () => {
  const parsed: unknown = JSON.parse(text);
  const whole = Buffer.from(text);
  await expectAllRefused('spoiled bytes', SPOILED_BYTES, [], (random, index) => {
    for (;;) {
      const at = random.integer(0, whole.length - 1);
      const [what, content] = spoilByte(whole, at, { kind: index % 3, random });
      if (!saysTheSame(content, parsed)) return { what: `${what} at byte ${at}`, content };
    }
  });
}, 120_000);

/** Changes, drops or doubles the byte, in this order of `kind`. */
function spoilByte(whole: Buffer, at: number, { kind, random }: { kind: number; random: Random }): [string, Buffer] {
  const [head, byte, tail] = [whole.subarray(0, at), whole.subarray(at, at + 1), whole.subarray(at + 1)];
  const other = Buffer.from([(byte[0] ?? 0) ^ (1 << random.integer(0, 7))]);
  const spoiled: [string, Buffer][] = [
    [`${other.toString('hex')} for ${byte.toString('hex')}`, Buffer.concat([head, other, tail])],
    [`${byte.toString('hex')} lost`, Buffer.concat([head, tail])],
    [`${byte.toString('hex')} twice`, Buffer.concat([head, byte, byte, tail])],
  ];
  return spoiled[kind] ?? random.pick(spoiled);
}

/** Returns whether only the spelling differs, such as whitespace or escapes: the backup is still good. */
function saysTheSame(content: Buffer, parsed: unknown): boolean {
  try {
    return isDeepStrictEqual(JSON.parse(content.toString('utf8')), parsed);
  } catch {
    return false;
  }
}

it('the backup itself is accepted', async () => {
  const content = Buffer.from(text);
  expect([await judgeOffline(content), await judgeOnline(content)]).toEqual(['made', 'made']);
});
