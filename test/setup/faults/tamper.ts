import type { PoolClient } from 'pg';
import { change, scalarsOf } from '../backup/spoil.ts';
import type { Random } from '../values/random.ts';

/** A change that an attacker with superuser rights makes to a chain, and where a check must find it. */
export interface Tampering {
  what: string;
  /** The first bad seq. */
  seq: number;
  /** Whether the node detects it during a backup, which reads entries and hashes, but not all other columns. */
  inBackup: boolean;
  /** Whether the backup file shows it; default: `inBackup`. */
  inFile?: boolean;
  run(client: PoolClient): Promise<unknown>;
}

/** The chain before any tampering. */
export interface Chain {
  length: number;
  /** Returns an entry without its hash. */
  entryAt(seq: number): Record<string, unknown>;
}

type Kind = (chain: Chain, random: Random) => Tampering;

const FREE_SEQ_OFFSET = 1_000_000;
const previousHash = `coalesce((select hash from loom_audit where seq = $1::bigint - 1), decode(repeat('00', 32), 'hex'))`;

/** Returns an entry with one scalar changed anywhere in it. */
function edited(chain: Chain, seq: number, random: Random): { entry: string; where: string } {
  const entry = structuredClone(chain.entryAt(seq));
  const path = random.pick(scalarsOf(entry, []));
  change(entry, path);
  return { entry: JSON.stringify(entry), where: path.join('/') };
}

/** Returns an entry with a change to a member that no column repeats. So the columns still match it. */
function forged(chain: Chain, seq: number, random: Random): string {
  return JSON.stringify({ ...chain.entryAt(seq), request_id: `forged-${random.integer(0, 1e9)}` });
}

const anySeq = (chain: Chain, random: Random): number => random.integer(1, chain.length);

function twoSeqs(chain: Chain, random: Random): [number, number] {
  const one = random.integer(1, chain.length - 1);
  return [one, random.integer(one + 1, chain.length)];
}

/** Moves all entries from `seq` on by `by`, in two steps so that two entries never have the same seq. */
async function move(client: PoolClient, seq: number, by: number): Promise<void> {
  await client.query('update loom_audit set seq = seq + $2 where seq >= $1', [seq, FREE_SEQ_OFFSET]);
  await client.query('update loom_audit set seq = seq - $1 + $2 where seq > $1', [FREE_SEQ_OFFSET, by]);
}

function columnEdit(column: string, assignment: string): Kind {
  return (chain, random) => {
    const seq = anySeq(chain, random);
    return {
      what: `sets the column ${column} of ${seq}: ${assignment}`,
      seq,
      inBackup: false,
      run: (client) => client.query(`update loom_audit set ${column} = ${assignment} where seq = $1`, [seq]),
    };
  };
}

const INSERT = `insert into loom_audit (state_key, seq, event_id, recorded_at, action, entry, hash)
  select 'default', $1::bigint, event_id, now, 'document.put', entry,`;
/** Selects an entry whose members match its columns. */
const FORGED_ENTRY = `from (
    select event_id, now, jsonb_build_object('seq', $1::bigint, 'event_id', event_id, 'recorded_at',
             to_char(now at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), 'action', 'document.put', 'actor', 'client',
             'request_id', 'forged', 'revision', $1::bigint, 'changes', '[]'::jsonb) as entry
      from (select gen_random_uuid() as event_id, now() as now) made) forged`;

/** Recomputes the hashes from `seq` on. */
const RELINK = `with recursive linked as (
    select seq, loom_chain_hash(${previousHash}, entry) as hash from loom_audit where seq = $1
    union all
    select a.seq, loom_chain_hash(l.hash, a.entry) from linked l join loom_audit a on a.seq = l.seq + 1
  )
  update loom_audit a set hash = l.hash from linked l where a.seq = l.seq`;

export const tamperings: Record<string, Kind> = {
  'edits an entry': (chain, random) => {
    const seq = anySeq(chain, random);
    const { entry, where } = edited(chain, seq, random);
    return {
      what: `edits ${where} of entry ${seq}`,
      seq,
      inBackup: true,
      run: (client) => client.query('update loom_audit set entry = $2 where seq = $1', [seq, entry]),
    };
  },
  'replaces an entry with another value': (chain, random) => {
    const seq = anySeq(chain, random);
    const value = random.pick(['{}', '[]', 'null', '0', '"entry"', '[{"seq":1}]']);
    return {
      what: `replaces entry ${seq} with ${value}`,
      seq,
      inBackup: true,
      run: (client) => client.query('update loom_audit set entry = $2 where seq = $1', [seq, value]),
    };
  },
  'edits an entry and its hash': (chain, random) => {
    const seq = anySeq(chain, random);
    return {
      what: `edits entry ${seq} and recomputes its hash`,
      // The entry itself is consistent. The next entry does not match, or the state row if there is none.
      seq: Math.min(seq + 1, chain.length),
      inBackup: true,
      run: (client) =>
        client.query(
          `update loom_audit set entry = $2::jsonb, hash = loom_chain_hash(${previousHash}, $2::jsonb) where seq = $1`,
          [seq, forged(chain, seq, random)],
        ),
    };
  },
  'edits an entry and all hashes after it': (chain, random) => {
    const seq = anySeq(chain, random);
    return {
      what: `edits entry ${seq} and recomputes all hashes from there on`,
      seq: chain.length,
      inBackup: true,
      run: async (client) => {
        await client.query('update loom_audit set entry = $2 where seq = $1', [seq, forged(chain, seq, random)]);
        await client.query(RELINK, [seq]);
      },
    };
  },
  'edits a hash': (chain, random) => {
    const seq = anySeq(chain, random);
    const byte = random.integer(0, 31);
    return {
      what: `edits byte ${byte} of the hash of ${seq}`,
      seq,
      inBackup: true,
      run: (client) =>
        client.query('update loom_audit set hash = set_byte(hash, $2, get_byte(hash, $2) # 1) where seq = $1', [
          seq,
          byte,
        ]),
    };
  },
  'edits an event id': columnEdit('event_id', 'gen_random_uuid()'),
  'edits a time': (chain, random) => {
    const assignment = random.pick([
      `recorded_at + interval '1 microsecond'`,
      `recorded_at - interval '1 year'`,
      `'infinity'`,
      `'-infinity'`,
      `'0044-03-15 BC'`,
      `'20260-01-01'`,
    ]);
    return columnEdit('recorded_at', assignment)(chain, random);
  },
  'edits an action': columnEdit('action', `action || '.'`),
  'edits an idempotency key': columnEdit(
    'idempotency_key',
    `case when idempotency_key is null then 'forged' when seq % 2 = 0 then idempotency_key || 'x' end`,
  ),
  'edits a seq': (chain, random) => {
    const seq = anySeq(chain, random);
    const to = chain.length + random.pick([1, 2, 10, 5_000, 2 ** 54]);
    return {
      what: `moves entry ${seq} to ${to}`,
      seq,
      inBackup: true,
      // The last entry stays the last one and is still consistent.
      inFile: seq < chain.length,
      run: (client) => client.query('update loom_audit set seq = $2 where seq = $1', [seq, to]),
    };
  },
  'deletes entries': (chain, random) => {
    const seq = anySeq(chain, random);
    const count = random.integer(1, 4);
    return {
      what: `deletes ${count} from ${seq} on`,
      seq,
      inBackup: true,
      run: (client) => client.query('delete from loom_audit where seq >= $1 and seq < $1 + $2', [seq, count]),
    };
  },
  'deletes an entry and closes the gap': (chain, random) => {
    const seq = anySeq(chain, random);
    return {
      what: `deletes ${seq} and closes the gap`,
      seq,
      inBackup: true,
      run: async (client) => {
        await client.query('delete from loom_audit where seq = $1', [seq]);
        await move(client, seq + 1, -1);
      },
    };
  },
  'deletes an entry and makes the rest consistent': (chain, random) => {
    const seq = anySeq(chain, random);
    return {
      what: `deletes ${seq}, closes the gap, and makes entries and hashes consistent`,
      seq: chain.length,
      inBackup: true,
      run: async (client) => {
        await client.query('delete from loom_audit where seq = $1', [seq]);
        await move(client, seq + 1, -1);
        await client.query(`update loom_audit set entry = jsonb_set(entry, '{seq}', to_jsonb(seq)) where seq >= $1`, [
          seq,
        ]);
        await client.query(RELINK, [seq]);
      },
    };
  },
  'deletes the last entries': (chain, random) => {
    const seq = anySeq(chain, random);
    return {
      what: `deletes all entries from ${seq} on`,
      seq,
      inBackup: true,
      run: (client) => client.query('delete from loom_audit where seq >= $1', [seq]),
    };
  },
  'inserts an entry with a matching hash': (chain, random) => {
    const seq = random.integer(1, chain.length + 1);
    return {
      what: `inserts an entry at ${seq} with a matching hash`,
      // After the last entry, the state row does not cover the forged entry.
      seq: Math.min(seq + 1, chain.length + 1),
      inBackup: true,
      run: async (client) => {
        await move(client, seq, 1);
        await client.query(`${INSERT} loom_chain_hash(${previousHash}, entry) ${FORGED_ENTRY}`, [seq]);
      },
    };
  },
  'inserts an entry with any hash': (chain, random) => {
    const seq = random.integer(1, chain.length + 1);
    return {
      what: `inserts an entry at ${seq} with a random hash`,
      seq,
      inBackup: true,
      run: async (client) => {
        await move(client, seq, 1);
        await client.query(`${INSERT} sha256(convert_to(event_id::text, 'UTF8')) ${FORGED_ENTRY}`, [seq]);
      },
    };
  },
  'swaps two entries': (chain, random) => {
    const [one, other] = twoSeqs(chain, random);
    return {
      what: `swaps ${one} and ${other}`,
      seq: one,
      inBackup: true,
      run: async (client) => {
        const away = 'update loom_audit set seq = $1 + $2 - seq + $3 where seq in ($1, $2)';
        await client.query(away, [one, other, FREE_SEQ_OFFSET]);
        await client.query('update loom_audit set seq = seq - $1 where seq > $1', [FREE_SEQ_OFFSET]);
      },
    };
  },
  'swaps the content of two entries': (chain, random) => {
    const [one, other] = twoSeqs(chain, random);
    return {
      what: `swaps the content of ${one} and ${other}`,
      seq: one,
      inBackup: true,
      run: (client) =>
        client.query(
          `update loom_audit a set entry = b.entry from loom_audit b
            where a.seq in ($1, $2) and b.seq = $1::bigint + $2::bigint - a.seq`,
          [one, other],
        ),
    };
  },
  'makes an entry contradict its columns, and the rest consistent': (chain, random) => {
    const seq = anySeq(chain, random);
    const [member, value] = random.pick([
      ['seq', seq + 1],
      ['event_id', '00000000-0000-4000-8000-000000000000'],
      ['recorded_at', '2020-02-02T02:02:02.020202Z'],
      ['action', 'state.forged'],
      ['idempotency_key', 'forged'],
    ] as const);
    return {
      what: `sets the member ${member} of entry ${seq}, and makes all hashes and the state row consistent`,
      seq,
      // A backup does not show the former values of these members. It shows a seq that is out of order.
      inBackup: member === 'seq',
      run: async (client) => {
        const entry = JSON.stringify({ ...chain.entryAt(seq), [member]: value });
        await client.query('update loom_audit set entry = $2 where seq = $1', [seq, entry]);
        await client.query(RELINK, [seq]);
        await client.query('update loom_state set audit_hash = hash from loom_audit where seq = $1', [chain.length]);
      },
    };
  },
  'changes the head in the state row': (chain, random) => {
    const { assignment, seq } = random.pick([
      { assignment: 'audit_hash = sha256(audit_hash)', seq: chain.length },
      { assignment: 'audit_seq = audit_seq + 3', seq: chain.length + 1 },
      { assignment: 'audit_seq = audit_seq - 2', seq: chain.length - 1 },
      {
        assignment: `audit_seq = audit_seq - 1,
          audit_hash = (select hash from loom_audit where state_key = 'default' and seq = audit_seq - 1)`,
        seq: chain.length,
      },
      { assignment: `audit_seq = 0, audit_hash = decode(repeat('00', 32), 'hex')`, seq: 1 },
    ]);
    return {
      what: `sets in the state row: ${assignment}`,
      seq,
      inBackup: true,
      run: (client) => client.query(`update loom_state set ${assignment} where state_key = 'default'`),
    };
  },
};
