import { readFile } from 'node:fs/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { isLoomError } from '../../../src/errors.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import type { ParsedBackup } from '../../setup/backup/chain.ts';
import { rounds, seededRandom, seedLabel } from '../../setup/depth.ts';
import { asSuperuser } from '../../setup/faults/superuser.ts';
import { type Chain, type Tampering, tamperings } from '../../setup/faults/tamper.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { verify } from '../../setup/node/store.ts';
import { digestTables } from '../../setup/server/digest.ts';

const EDITS = rounds({ quick: Object.keys(tamperings).length, full: 200 });
const statement = await readFile(new URL('../../../docs/verify-chain.sql', import.meta.url), 'utf8');

let nodes: TestNodes;
let chain: Chain;
let whole: string;

beforeAll(async () => {
  nodes = await openNodes();
  await makeHistory();
  const { audit_entries: entries } = JSON.parse(await nodes.node.backup()) as ParsedBackup;
  chain = {
    length: entries.length,
    entryAt: (seq) => {
      const { hash: _hash, ...entry } = entries[seq - 1] ?? {};
      return entry;
    },
  };
  await nodes.database.pool.query(
    'create table kept_audit as table loom_audit; create table kept_state as table loom_state',
  );
  whole = await digestTables(nodes.database.pool);
});
afterEach(() => putBack());
afterAll(() => nodes.close());

/** Makes entries of every kind: commits, restores, an undo and imports. */
async function makeHistory(): Promise<void> {
  const { node } = nodes;
  const foreign = await openNodes();
  for (let index = 0; index < 3; index += 1) await foreign.node.put(`foreign-${index}`, { index });
  for (let index = 1; index <= 30; index += 1) {
    await node.commit({
      ...(index % 5 === 0 ? { idempotencyKey: `key-${index}` } : {}),
      changes: [
        { op: 'put', name: `doc-${index % 7}`, json: JSON.stringify({ index, text: 'é🧵"\\', list: [1e21, null] }) },
      ],
    });
  }
  const backup = await node.backup();
  await node.commit({ action: 'document.patch', changes: [{ op: 'merge', name: 'doc-1', json: '{"text":null}' }] });
  await node.commit({ action: 'document.delete', changes: [{ op: 'delete', name: 'doc-2' }] });
  await node.commit({ action: 'state.put', changes: [{ op: 'put', name: 'only', json: 'true' }] });
  await node.restore(backup);
  await node.put('after', 'the restore');
  await node.restore(backup, { replace_state: false });
  await node.restore(await foreign.node.backup());
  await foreign.close();
  await node.undo();
  await node.put('last', { of: 'all' });
}

const putBack = (): Promise<void> =>
  asSuperuser(nodes.database.pool, async (client) => {
    await client.query('delete from loom_audit; insert into loom_audit select * from kept_audit');
    await client.query('delete from loom_state; insert into loom_state select * from kept_state');
  });

/** Returns the offline verifier's verdict on a backup. */
async function offline(text: string): Promise<string> {
  async function* open() {
    yield Buffer.from(text);
  }
  try {
    await verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION });
    return 'matches';
  } catch (error) {
    if (!isLoomError(error)) throw error;
    return error.code;
  }
}

/** Returns the verdicts of all checks of the chain. */
async function judge() {
  const loom = await verify(nodes.node);
  const { rows: plain } = await nodes.node.pool.query(statement);
  const backup = await nodes.node.backup();
  const { lastChainCheck } = nodes.node.store.observe();
  const { manifest } = JSON.parse(backup) as ParsedBackup;
  return {
    loom: loom.ok ? null : loom.first_bad_seq,
    plain: plain[0]?.first_bad_seq,
    plainOk: plain[0]?.ok,
    backup: manifest.audit_verified,
    status: lastChainCheck?.first_bad_seq,
    offline: await offline(backup),
  };
}

/** Codes that refuse a backup with a broken chain. */
const refusals = ['backup_chain_broken', 'backup_malformed', 'backup_count_mismatch'];

async function expectFound(tampering: Tampering, label: string): Promise<void> {
  await asSuperuser(nodes.database.pool, (client) => tampering.run(client));
  const { offline: said, ...found } = await judge();
  const { seq, inBackup, inFile = inBackup } = tampering;
  expect(found, label).toEqual({
    loom: seq,
    plain: seq,
    plainOk: false,
    backup: !inBackup,
    status: inBackup ? seq : null,
  });
  expect(inFile ? refusals : ['matches'], label).toContain(said);
  await putBack();
}

describe('a chain that a superuser has tampered with', () => {
  it(`is found broken at the right seq after each of ${EDITS} random edits, by LOOM, by plain SQL and in a backup`, async () => {
    const random = seededRandom('tamperings');
    const kinds = Object.entries(tamperings);
    for (let edit = 0; edit < EDITS; edit += 1) {
      const [kind, make] = kinds[edit % kinds.length] ?? random.pick(kinds);
      const tampering = make(chain, random);
      await expectFound(tampering, `${seedLabel}, edit ${edit}: a superuser ${kind}: ${tampering.what}`);
    }
    expect(await digestTables(nodes.database.pool)).toBe(whole);
    expect(await judge()).toEqual({
      loom: null,
      plain: null,
      plainOk: true,
      backup: true,
      status: null,
      offline: 'matches',
    });
  }, 120_000);

  it('is found broken if an entry has an invalid time', async () => {
    await asSuperuser(nodes.database.pool, async (client) => {
      await client.query(
        `update loom_audit a set entry = e.entry, hash = loom_chain_hash(p.hash, e.entry)
           from (select entry || '{"recorded_at":"yesterday"}' as entry from loom_audit where seq = $1) e,
                (select hash from loom_audit where seq = $1::bigint - 1) p
          where a.seq = $1`,
        [chain.length],
      );
      await client.query('update loom_state set audit_hash = hash from loom_audit where seq = $1', [chain.length]);
    });
    expect(await judge()).toMatchObject({ loom: chain.length, plain: chain.length, offline: 'backup_malformed' });
  });

  it('is found broken before the first entry, which would be linked to a wrong hash', async () => {
    const empty = await openNodes();
    try {
      await empty.database.pool.query('update loom_state set audit_hash = sha256(audit_hash)');
      expect(await verify(empty.node)).toMatchObject({ ok: false, first_bad_seq: 1, reason: 'head_mismatch' });
      const { rows } = await empty.node.pool.query(statement);
      expect(rows).toMatchObject([{ entries: 0, ok: false, first_bad_seq: 1, head_matches: false }]);
      expect(JSON.parse(await empty.node.backup())).toMatchObject({ manifest: { audit_verified: false } });
    } finally {
      await empty.close();
    }
  });
});
