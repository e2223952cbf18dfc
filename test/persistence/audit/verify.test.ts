import { readFile } from 'node:fs/promises';
import fc from 'fast-check';
import type { PoolClient } from 'pg';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifyChain } from '../../../src/persistence/audit/verify.ts';
import { createConnection } from '../../../src/persistence/connection/connection.ts';
import { rounds } from '../../setup/depth.ts';
import { openNodes, type TestNodes } from '../../setup/node/nodes.ts';
import { verify } from '../../setup/node/store.ts';

const LENGTH = 40;
const statement = await readFile(new URL('../../../docs/verify-chain.sql', import.meta.url), 'utf8');

let nodes: TestNodes;
beforeAll(async () => {
  nodes = await openNodes();
  for (let index = 1; index <= LENGTH; index += 1) {
    await nodes.node.commit({
      ...(index % 5 === 0 ? { idempotencyKey: `key-${index}` } : {}),
      changes: [{ op: 'put', name: `doc-${index % 7}`, json: `{"n":${index},"text":"é🧵"}` }],
    });
  }
});
afterAll(() => nodes.close());

interface Verdict {
  ok: boolean;
  first_bad_seq?: number;
  reason?: string;
}

/** Returns the verdicts of LOOM and of the plain query after `spoil`, and rolls `spoil` back. */
async function judge(spoil: (client: PoolClient) => Promise<unknown>): Promise<{ loom: Verdict; plain: Verdict }> {
  const client = await nodes.node.pool.connect();
  try {
    await client.query('begin');
    await client.query('alter table loom_audit disable trigger user');
    await spoil(client);
    const loom = await verifyChain(createConnection(client), 'default');
    const { rows } = await client.query(statement);
    expect(rows).toHaveLength(1);
    return { loom, plain: rows[0] };
  } finally {
    await client.query('rollback');
    client.release();
  }
}

async function expectBad(spoil: (client: PoolClient) => Promise<unknown>, seq: number, reason?: string): Promise<void> {
  const { loom, plain } = await judge(spoil);
  expect(loom).toMatchObject({ ok: false, first_bad_seq: seq, ...(reason === undefined ? {} : { reason }) });
  expect(plain).toMatchObject({ ok: false, first_bad_seq: seq });
}

/** Moves entries out of the way first, because two entries may never have the same seq. */
const shift = `update loom_audit set seq = seq + 1000 where seq >= $1`;

/** Edits that a superuser can make to entry `seq`, and to `other` if an edit needs two entries. */
const edits: Record<string, (client: PoolClient, seq: number, other: number) => Promise<unknown>> = {
  'edits a value': (client, seq) =>
    client.query(`update loom_audit set entry = jsonb_set(entry, '{changes,0,value,n}', '0') where seq = $1`, [seq]),
  'adds a member': (client, seq) =>
    client.query(`update loom_audit set entry = entry || '{"approved":true}' where seq = $1`, [seq]),
  'edits an entry and makes its hash anew': (client, seq) =>
    client.query(
      `update loom_audit a set entry = e.entry, hash = loom_chain_hash(coalesce(
                (select hash from loom_audit where seq = $1 - 1), decode(repeat('00', 32), 'hex')), e.entry)
         from (select entry || '{"actor":"admin"}' as entry from loom_audit where seq = $1) e where a.seq = $1`,
      [seq],
    ),
  deletes: (client, seq) => client.query('delete from loom_audit where seq = $1', [seq]),
  'deletes and closes the gap': async (client, seq) => {
    await client.query('delete from loom_audit where seq = $1', [seq]);
    await client.query(shift, [seq]);
    await client.query('update loom_audit set seq = seq - 1001 where seq > 1000');
  },
  inserts: async (client, seq) => {
    await client.query(shift, [seq]);
    await client.query('update loom_audit set seq = seq - 999 where seq > 1000');
    await client.query(
      `insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
       select state_key, $1::bigint, gen_random_uuid(), recorded_at, action, entry, hash from loom_audit where seq = $1::bigint + 1`,
      [seq],
    );
  },
  'swaps two': (client, seq, other) =>
    client
      .query('update loom_audit set seq = $1 + $2 - seq + 1000 where seq in ($1, $2)', [seq, other])
      .then(() => client.query('update loom_audit set seq = seq - 1000 where seq > 1000')),
  'edits the hash': (client, seq) => client.query(`update loom_audit set hash = sha256(hash) where seq = $1`, [seq]),
};

/** Returns the seq of the first bad entry. A changed hash that matches its own entry is detected at the next one. */
function expectedSeq(edit: string, seq: number, other: number): number {
  if (edit === 'edits an entry and makes its hash anew') return seq === LENGTH ? LENGTH : seq + 1;
  return edit === 'swaps two' ? Math.min(seq, other) : seq;
}

describe('the chain', () => {
  it('of an untampered history is valid, by LOOM and by one plain query', async () => {
    expect(await verify(nodes.node)).toMatchObject({ ok: true, entries: LENGTH, head: { seq: LENGTH } });
    const { plain } = await judge(() => Promise.resolve());
    expect(plain).toMatchObject({ entries: LENGTH, ok: true, first_bad_seq: null, head_matches: true, mismatches: [] });
  });

  it('of an empty state is valid', async () => {
    const empty = await openNodes();
    try {
      expect(await verify(empty.node)).toMatchObject({ ok: true, entries: 0 });
      const { rows } = await empty.node.pool.query(statement);
      expect(rows).toMatchObject([{ entries: 0, ok: true, first_bad_seq: null, head_matches: true, mismatches: [] }]);
    } finally {
      await empty.close();
    }
  });

  // Both ends of the chain, and random places.
  const PLACES = rounds({ quick: 5, full: 12 });

  it.each(Object.keys(edits))(`names the first bad entry, in ${PLACES} places, when a superuser %s`, async (edit) => {
    const seq = fc.integer({ min: 1, max: LENGTH });
    await fc.assert(
      fc.asyncProperty(seq, seq, async (at, given) => {
        const other = given === at ? (at % LENGTH) + 1 : given;
        await expectBad((client) => edits[edit]?.(client, at, other) ?? Promise.reject(), expectedSeq(edit, at, other));
      }),
      {
        numRuns: PLACES,
        examples: [
          [1, 2],
          [LENGTH, 1],
        ],
      },
    );
  });

  it('whose end was cut off does not match the state row', async () => {
    await expectBad((client) => client.query('delete from loom_audit where seq > 33'), 34, 'entries_missing');
    await expectBad((client) => client.query('delete from loom_audit'), 1, 'entries_missing');
  });

  it('that was continued without LOOM does not match the state row', async () => {
    const append = (client: PoolClient) =>
      client.query(
        `insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
         select state_key, seq + 1, id, recorded_at, action, added, loom_chain_hash(hash, added)
           from (select a.*, i.id, (entry - 'idempotency_key') || jsonb_build_object('seq', seq + 1, 'event_id', i.id) as added
                   from loom_audit a, (select gen_random_uuid() as id) i where seq = $1) last`,
        [LENGTH],
      );
    await expectBad(append, LENGTH + 1, 'head_mismatch');
    await expectBad(
      (client) => client.query('update loom_state set audit_hash = sha256(audit_hash)'),
      LENGTH,
      'head_mismatch',
    );
  });

  it.each([
    ['action', `action = 'restore'`],
    ['event id', 'event_id = gen_random_uuid()'],
    ['time', `recorded_at = recorded_at + interval '1 microsecond'`],
    ['idempotency key', `idempotency_key = 'another'`],
    ['missing idempotency key', 'idempotency_key = null'],
  ])('whose columns contradict an entry: %s', async (_what, assignment) => {
    await expectBad(
      (client) => client.query(`update loom_audit set ${assignment} where seq = 20`),
      20,
      'column_mismatch',
    );
  });

  it('is still valid after all these tests', async () => {
    expect(await verify(nodes.node)).toMatchObject({ ok: true, entries: LENGTH });
  });
});
