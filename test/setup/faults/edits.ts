import type { Pool, PoolClient } from 'pg';
import type { Random } from '../values/random.ts';

/** What a verification must report about an edit: a mismatch with these members, or the first bad entry. */
export interface Named {
  reason: string;
  document?: string;
  seq?: number;
  event_id?: string;
  /** A word of the detail. */
  detail?: string;
}

/** An edit that a superuser makes behind LOOM's back. */
export interface Edit {
  what: string;
  /** Edits with a common target would undo or hide each other. */
  targets: string[];
  named: Named[];
  run(client: PoolClient): Promise<unknown>;
}

export interface ChangeRow {
  name: string;
  seq: number;
  op: string;
  sha256: string | null;
  /** Whether the change of the value is one that matters: the patch of a merge changes the document. */
  is_last: boolean;
}

/** The rows of a state before any edit. */
export interface Rows {
  documents: { name: string; revision: number }[];
  changes: ChangeRow[];
  operations: { seq: number; action: string }[];
  records: { revision: number; event_id: string; documents: number; audit_entries: number }[];
  length: number;
}

export async function readRows(pool: Pool): Promise<Rows> {
  const rows = async <Row>(text: string): Promise<Row[]> => {
    const { rows: found } = await pool.query(`select to_jsonb(r) as row from (${text}) r`);
    return found.map(({ row }) => row as Row);
  };
  const [last] = await rows<{ length: number }>('select max(seq) as length from loom_audit');
  return {
    documents: await rows('select name, revision from loom_document order by name'),
    changes: await rows(
      `select name, seq, op, encode(sha256, 'hex') as sha256, seq = max(seq) over (partition by name) as is_last
         from loom_change where name <> '' order by seq, name`,
    ),
    operations: await rows(
      `select seq, action from loom_audit where action in ('restore', 'undo') and entry -> action ? 'recorded_changes'`,
    ),
    records: await rows('select revision, event_id, documents, audit_entries from loom_snapshot order by revision'),
    length: last?.length ?? 0,
  };
}

export type EditKind = (rows: Rows, random: Random) => Edit;

function documentEdit(what: string, statement: string): EditKind {
  return ({ documents }, random) => {
    const { name } = random.pick(documents);
    return {
      what: `${what} ${name}`,
      targets: [`document ${name}`],
      named: [{ reason: 'document_mismatch', document: name }],
      run: (client) => client.query(statement, [name]),
    };
  };
}

function stateEdit(member: string, assignment: string): EditKind {
  return () => ({
    what: `sets in the state row: ${assignment}`,
    targets: [`state ${member}`],
    named: [{ reason: 'state_mismatch', detail: member }],
    run: (client) => client.query(`update loom_state set ${assignment}`),
  });
}

/** Edits the state row, and commits: the next entry continues what was edited, and the row matches it again. */
function continuedEdit(assignment: string, named: Omit<Named, 'seq'>): EditKind {
  return ({ length }) => ({
    what: `sets in the state row: ${assignment}, and commits`,
    targets: ['entry', 'state revision', 'state epoch'],
    named: [{ ...named, seq: length + 1 }],
    run: async (client) => {
      await client.query(`update loom_state set ${assignment}`);
      await client.query(COMMIT);
    },
  });
}

const COMMIT = `select loom_commit('default', jsonb_build_array(jsonb_build_object(
    'event_id', gen_random_uuid(), 'action', 'document.put', 'actor', 'client', 'request_id', 'edit',
    'changes', '[{"op": "put", "name": "committed after an edit", "value": 1}]'::jsonb)),
  '{"max_document_bytes": 1000, "max_deletes": 1, "lock_timeout_ms": 5000}')`;

function indexEdit(what: string, statement: string, suits: (row: ChangeRow) => boolean = () => true): EditKind {
  return ({ changes }, random) => {
    const { name, seq } = random.pick(changes.filter(suits));
    return {
      what: `${what} of ${name} in ${seq}`,
      targets: [`index ${name} ${seq}`],
      named: [{ reason: 'index_mismatch', document: name, seq }],
      run: (client) => client.query(statement, [name, seq]),
    };
  };
}

function undoEdit(
  what: string,
  statement: string,
  suits: (row: Rows['records'][number]) => boolean = () => true,
): EditKind {
  return ({ records }, random) => {
    const record = random.pick(records.filter(suits));
    return {
      what: `${what} of the undo record ${record.event_id}`,
      targets: ['undo record'],
      named: [{ reason: 'undo_record_mismatch', event_id: record.event_id }],
      run: (client) => client.query(statement, [record.revision]),
    };
  };
}

export const edits: Record<string, EditKind> = {
  'edits a document': documentEdit('edits', `update loom_document set value = '{"edited": true}' where name = $1`),
  'edits a document, with the same size': documentEdit(
    'edits as many bytes of',
    `update loom_document set value = translate(value::text, '0123456789abcdef', '1234567890bcdefa')::jsonb where name = $1`,
  ),
  'edits a revision': documentEdit(
    'edits the revision of',
    'update loom_document set revision = revision + 1 where name = $1',
  ),
  'lowers a revision': documentEdit(
    'lowers the revision of',
    'update loom_document set revision = revision - 1 where name = $1',
  ),
  'removes a document': documentEdit('removes', 'delete from loom_document where name = $1'),
  'inserts a document': (_rows, random) => {
    const name = `inserted ${random.integer(0, 1e9)} 'é"`;
    return {
      what: `inserts ${name}`,
      targets: [`document ${name}`],
      named: [{ reason: 'document_mismatch', document: name }],
      run: (client) =>
        client.query(`insert into loom_document (state_key, name, value, revision) values ('default', $1, '1', 2)`, [
          name,
        ]),
    };
  },
  'brings a removed document back': ({ changes }, random) => {
    const { name } = random.pick(changes.filter(({ op, is_last }) => op === 'delete' && is_last));
    return {
      what: `brings ${name} back`,
      targets: [`document ${name}`],
      named: [{ reason: 'document_mismatch', document: name }],
      run: (client) =>
        client.query(`insert into loom_document (state_key, name, value, revision) values ('default', $1, '1', 2)`, [
          name,
        ]),
    };
  },
  'renames a document': ({ documents }, random) => {
    const { name } = random.pick(documents);
    const other = `renamed ${random.integer(0, 1e9)}`;
    return {
      what: `renames ${name} to ${other}`,
      targets: [`document ${name}`],
      named: [name, other].map((document) => ({ reason: 'document_mismatch', document })),
      run: (client) => client.query('update loom_document set name = $2 where name = $1', [name, other]),
    };
  },
  'counts another document': stateEdit('documents', 'documents = documents + 1'),
  'counts other bytes': stateEdit('bytes', 'bytes = greatest(bytes - 1, 0)'),
  'raises the revision of the state': stateEdit('revision', 'revision = revision + 3'),
  'lowers the revision of the state': stateEdit('revision', 'revision = revision - 1'),
  'edits the epoch': stateEdit('epoch', `epoch = 'another'`),
  'raises the revision of the state before a commit': continuedEdit('revision = revision + 3', {
    reason: 'state_mismatch',
    detail: 'revision',
  }),
  'lowers the revision of the state before a commit': continuedEdit('revision = revision - 1', {
    reason: 'state_mismatch',
    detail: 'revision',
  }),
  'edits the epoch before a commit': continuedEdit(`epoch = 'another'`, { reason: 'state_mismatch', detail: 'epoch' }),
  'edits the head before a commit': continuedEdit('audit_hash = sha256(audit_hash)', { reason: 'chain' }),
  'moves the head before a commit': continuedEdit('audit_seq = audit_seq + 2', { reason: 'chain' }),
  'removes a row of the index': indexEdit('removes the row', 'delete from loom_change where name = $1 and seq = $2'),
  'edits a digest of the index': indexEdit(
    'edits the digest',
    'update loom_change set sha256 = sha256(sha256) where name = $1 and seq = $2',
    ({ sha256 }) => sha256 !== null,
  ),
  'removes a digest of the index': indexEdit(
    'removes the digest',
    'update loom_change set sha256 = null where name = $1 and seq = $2',
    ({ sha256 }) => sha256 !== null,
  ),
  'edits a revision of the index': indexEdit(
    'edits the revision',
    'update loom_change set revision = revision + 1 where name = $1 and seq = $2',
  ),
  'edits an op of the index': indexEdit(
    'edits the op',
    `update loom_change set op = case op when 'merge' then 'put' else 'merge' end where name = $1 and seq = $2`,
  ),
  'renames a row of the index': indexEdit(
    'renames the row',
    `update loom_change set name = 'another ' || name where name = $1 and seq = $2`,
  ),
  'inserts a row into the index': ({ changes, length }, random) => {
    const { name } = random.pick(changes);
    const seq = length + random.integer(1, 5);
    return {
      what: `inserts a row for ${name} in ${seq}`,
      targets: [`index ${name} ${seq}`],
      named: [{ reason: 'index_mismatch', document: name, seq }],
      run: (client) =>
        client.query(
          `insert into loom_change (state_key, name, seq, revision, op, sha256)
           select state_key, name, $2, revision, op, sha256 from loom_change where name = $1 order by seq desc limit 1`,
          [name, seq],
        ),
    };
  },
  'inserts an untold restore into the index': ({ length }, random) => {
    const seq = random.integer(1, length);
    return {
      what: `inserts an untold restore at ${seq}`,
      targets: [`index ${seq}`],
      named: [{ reason: 'index_mismatch', seq }],
      run: (client) =>
        client.query(
          `insert into loom_change (state_key, name, seq, revision, op) values ('default', '', $1, 0, 'unknown')`,
          [seq],
        ),
    };
  },
  'edits a kept document': undoEdit(
    'edits a document',
    `update loom_snapshot_document set value = '{"edited": true}'
      where name = (select min(name) from loom_snapshot_document where revision = $1) and revision = $1`,
    ({ documents }) => documents > 0,
  ),
  'removes a kept document': undoEdit(
    'removes a document',
    `delete from loom_snapshot_document where name = (select max(name) from loom_snapshot_document where revision = $1) and revision = $1`,
    ({ documents }) => documents > 0,
  ),
  'inserts a kept document': undoEdit(
    'inserts a document',
    `insert into loom_snapshot_document (state_key, revision, name) values ('default', $1, 'inserted')`,
  ),
  'edits a kept entry': undoEdit(
    'edits an entry',
    `update loom_snapshot_audit set entry = entry || '{"actor": "nobody"}'
      where seq = (select min(seq) from loom_snapshot_audit where revision = $1) and revision = $1`,
    ({ audit_entries }) => audit_entries > 0,
  ),
  'edits an undo record': (rows, random) =>
    undoEdit(
      'edits a column',
      `update loom_snapshot set ${random.pick([
        'previous_revision = previous_revision - 1',
        'replaced_state = not replaced_state',
        `kind = case kind when 'undo' then 'restore' else 'undo' end`,
        'documents = documents + 1',
        'audit_entries = audit_entries + 1',
        'substantial = not substantial',
        `taken_at = taken_at + interval '1 microsecond'`,
        'event_id = gen_random_uuid()',
        'revision = revision + 1000',
      ])} where revision = $1`,
    )(rows, random),
  'removes an undo record': undoEdit('removes the row', 'delete from loom_snapshot where revision = $1'),
  'removes all of an undo record': undoEdit(
    'removes all rows',
    `with documents as (delete from loom_snapshot_document where revision = $1),
          entries as (delete from loom_snapshot_audit where revision = $1)
     delete from loom_snapshot where revision = $1`,
  ),
};
