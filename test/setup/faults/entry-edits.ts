import type { PoolClient } from 'pg';
import type { ChangeRow, EditKind } from './edits.ts';

/** Recomputes all hashes from `seq` on, and the head in the state row. Only what the entries say can still be wrong. */
const RELINK = `with recursive linked as (
    select seq, loom_chain_hash(coalesce((select hash from loom_audit where seq = $1::bigint - 1), decode(repeat('00', 32), 'hex')), entry) as hash
      from loom_audit where seq = $1
    union all
    select a.seq, loom_chain_hash(l.hash, a.entry) from linked l join loom_audit a on a.seq = l.seq + 1
  )
  update loom_audit a set hash = l.hash from linked l where a.seq = l.seq`;

async function relink(client: PoolClient, seq: number): Promise<void> {
  await client.query(RELINK, [seq]);
  await client.query(
    'update loom_state set audit_hash = (select hash from loom_audit where seq = loom_state.audit_seq)',
  );
}

/** Edits element `name` of an entry, with the new element in SQL, and recomputes all hashes after it. */
function elementEdit(
  what: string,
  element: string,
  suits: (row: ChangeRow) => boolean,
  { reason, moves = false }: { reason: string; moves?: boolean },
): EditKind {
  return ({ changes }, random) => {
    const { name, seq } = random.pick(changes.filter(suits));
    return {
      what: `${what} of ${name} in entry ${seq}, and all hashes`,
      targets: ['entry', ...(moves ? [`document ${name}`] : [])],
      named: [{ reason, document: name, seq }],
      run: async (client) => {
        await client.query(
          `update loom_audit set entry = jsonb_set(entry, '{changes}', (
             select jsonb_agg(case when c ->> 'name' = $1 then ${element} else c end order by place)
               from jsonb_array_elements(entry -> 'changes') with ordinality e (c, place))) where seq = $2`,
          [name, seq],
        );
        await relink(client, seq);
      },
    };
  };
}

/** Edits an entry without the hashes after it. */
function entryEdit(what: string, assignment: string, badSeq: (seq: number, length: number) => number): EditKind {
  return ({ length }, random) => {
    const seq = random.integer(1, length);
    return {
      what: `${what} of entry ${seq}`,
      targets: ['entry'],
      named: [{ reason: 'chain', seq: badSeq(seq, length) }],
      run: (client) => client.query(`update loom_audit a set ${assignment} where seq = $1`, [seq]),
    };
  };
}

const another = `encode(sha256(convert_to(c ->> 'sha256', 'UTF8')), 'hex')`;

/** Edits of entries, without or with all hashes after them. */
export const entryEdits: Record<string, EditKind> = {
  'edits a document in an entry': elementEdit(
    'edits the value',
    `c || '{"value": {"edited": 1}}'`,
    ({ op }) => op === 'put',
    { reason: 'digest_mismatch' },
  ),
  'edits a digest in an entry': elementEdit(
    'edits the digest',
    `c || jsonb_build_object('sha256', ${another})`,
    ({ sha256 }) => sha256 !== null,
    { reason: 'digest_mismatch' },
  ),
  'edits a patch in an entry': elementEdit(
    'edits the patch',
    `c || '{"value": {"edited": {"by": "hand"}}}'`,
    ({ op }) => op === 'merge',
    { reason: 'digest_mismatch' },
  ),
  'removes a digest in an entry': elementEdit('removes the digest', `c - 'sha256'`, ({ op }) => op === 'merge', {
    reason: 'index_mismatch',
    moves: true,
  }),
  'edits a name in an entry': elementEdit('edits the name', `c || '{"name": "another name"}'`, () => true, {
    reason: 'index_mismatch',
    moves: true,
  }),
  'edits the number of recorded changes': ({ operations }, random) => {
    const { seq, action } = random.pick(operations);
    return {
      what: `edits the number of recorded changes of entry ${seq}, and all hashes`,
      targets: ['entry'],
      named: [{ reason: 'changes_mismatch', seq }],
      run: async (client) => {
        await client.query(
          `update loom_audit set entry = jsonb_set(entry, '{${action},recorded_changes}',
             to_jsonb((entry -> action ->> 'recorded_changes')::bigint + 1)) where seq = $1`,
          [seq],
        );
        await relink(client, seq);
      },
    };
  },
  'removes the number of recorded changes': ({ operations }, random) => {
    const { seq, action } = random.pick(operations);
    return {
      what: `removes the number of recorded changes of entry ${seq}, and all hashes`,
      targets: ['entry'],
      named: [{ reason: 'index_mismatch', seq }],
      run: async (client) => {
        await client.query(`update loom_audit set entry = entry #- '{${action},recorded_changes}' where seq = $1`, [
          seq,
        ]);
        await relink(client, seq);
      },
    };
  },
  'edits an entry': entryEdit('edits the actor', `entry = entry || '{"actor": "nobody"}'`, (seq) => seq),
  'edits an entry and its hash': entryEdit(
    'edits the actor and the hash',
    `entry = entry || '{"actor": "nobody"}', hash = loom_chain_hash(
       coalesce((select hash from loom_audit p where p.seq = a.seq - 1), decode(repeat('00', 32), 'hex')), entry || '{"actor": "nobody"}')`,
    (seq, length) => Math.min(seq + 1, length),
  ),
  'edits a hash': entryEdit('edits the hash', 'hash = sha256(hash)', (seq) => seq),
  'edits a column of an entry': entryEdit('edits a column', `action = action || '.'`, (seq) => seq),
};
