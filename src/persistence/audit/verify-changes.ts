import type { AuditMismatch } from '../../domain/audit.ts';
import { limits } from '../../limits.ts';
import type { Connection } from '../connection/connection.ts';

/** Collects faults of one kind. `listed` has the first ones, up to `limits.maxListedMismatches`. */
export interface Mismatches {
  count: number;
  listed: AuditMismatch[];
}

export const NO_MISMATCHES: Mismatches = { count: 0, listed: [] };

export const MAX_SEQ = Number.MAX_SAFE_INTEGER;

/** Counts the rows of the whole result beside each listed row. */
export const COUNTED = 'count(*) over () as count';

export const LIST_LIMIT = `limit ${limits.maxListedMismatches}`;

/** Describes listed rows, each with the count of all. */
export function toMismatches<Row extends { count: number }>(
  rows: Row[],
  describe: (row: Row) => AuditMismatch,
): Mismatches {
  return { count: rows[0]?.count ?? 0, listed: rows.map(describe) };
}

export interface CheckedChanges {
  /** Digests that entries claim, and their document does not have. */
  digests: Mismatches;
  /** Restores and undos that claim other changes than the entries after them have. */
  recorded: Mismatches;
  /** Rows of `loom_change` that differ from the entries. */
  index: Mismatches;
  /**
   * Seqs of the restores and undos by nodes of an earlier version, which did not say what they changed. If entry and
   * index disagree about one, it is a fault, and hides nothing.
   */
  untoldSeqs: number[];
  /** Seq of the last restore or undo; 0 if there is none. */
  lastOperationSeq: number;
  /** Seq of the last entry of a restore or undo, with its recorded changes; 0 if there is none. */
  lastRecordedSeq: number;
  /**
   * Whether revision and seq of each later change differ by `shift`, as those of the state row do. So no revision is
   * missing between them. False if the index cannot tell.
   */
  isShiftConstant(shift: number): boolean;
  /** Whether an entry claims the digest of a merge. */
  hasMerges: boolean;
  /**
   * SQL of the changes of the state $1: `name`, `seq`, `revision`, `op` and `sha256`. The index, unless it differs from
   * the entries.
   */
  changes: string;
}

const INDEXED = `(select name, seq, revision, op, sha256 from loom_change where state_key = $1 and name <> '')`;

const DERIVED = `(select c.name, a.seq, c.revision, c.op, c.sha256
    from loom_audit a cross join lateral loom_entry_changes(a.entry) c where a.state_key = $1)`;

/**
 * Compares every entry's changes with the digests that it claims, and the index of changes with the entries. Merges
 * come later: see `checkMerges`. Call it in a snapshot transaction.
 */
export async function checkChanges(connection: Connection, stateKey: string): Promise<CheckedChanges> {
  const operations = await checkOperations(connection, stateKey);
  const found = await connection.firstRow<SurveyedChanges>(changesSurvey(await connection.pausingAt('seq', 'entry')), [
    stateKey,
    operations.lastRecordedSeq,
  ]);
  if (found === undefined) throw new Error('an aggregate returns one row');
  const { unproven, merges, indexed, min_shift: minShift, max_shift: maxShift } = found;
  const index = indexed && operations.isIndexed ? NO_MISMATCHES : await listIndexFaults(connection, stateKey);
  return {
    digests: unproven === 0 ? NO_MISMATCHES : await listUnproven(connection, stateKey),
    recorded: operations.recorded,
    index,
    untoldSeqs: operations.untoldSeqs,
    lastOperationSeq: operations.lastSeq,
    lastRecordedSeq: operations.lastRecordedSeq,
    isShiftConstant: (shift) => indexed && minShift === shift && maxShift === shift,
    hasMerges: merges > 0,
    changes: index.count === 0 ? INDEXED : DERIVED,
  };
}

interface SurveyedChanges {
  unproven: number;
  merges: number;
  indexed: boolean;
  min_shift: number | null;
  max_shift: number | null;
}

/**
 * Surveys all changes in one parallel pass: whether each digest of a put is right, and whether the index has the same
 * rows. It may suspect an entry that LOOM did not write, so the statements that list the faults decide. The sums find a
 * name that occurs twice in an entry: such a pair of changes has one row, but is counted twice.
 *
 * The inner `offset` lets PostgreSQL decompress a large entry once, and not for each of its changes. The outer one
 * keeps the digests below the join, so that the join stores no values.
 */
export const changesSurvey = (pausing = '') => `
  select c.unproven, c.merges, i.min_shift, i.max_shift,
         c.changes = i.rows and c.indexed = i.rows and c.places is not distinct from i.places as indexed
    from (select count(*) as changes,
                 count(*) filter (where c.claimed <> c.digest) as unproven,
                 count(*) filter (where c.op = 'merge' and c.claimed is not null) as merges,
                 count(*) filter (where x.op = c.op and x.revision::text = c.revision
                   and encode(x.sha256, 'hex') is not distinct from case when c.op = 'put' then c.digest else c.claimed end) as indexed,
                 sum(hashtextextended(x.name, x.seq)) as places
            from (select a.seq, change ->> 'name' as name, change ->> 'op' as op, change ->> 'sha256' as claimed,
                         coalesce(change ->> 'revision', a.revision) as revision,
                         case when change ->> 'op' = 'put'
                              then encode(sha256(convert_to((change -> 'value')::text, 'UTF8')), 'hex') end as digest
                    from (select seq, entry ->> 'revision' as revision, entry -> 'changes' as changes
                            from loom_audit where state_key = $1${pausing} offset bigint '0') a
                   cross join lateral jsonb_array_elements(
                     case when jsonb_typeof(a.changes) = 'array' then a.changes end) e (change)
                  offset bigint '0') c
            left join loom_change x on x.state_key = $1 and x.name = c.name and x.seq = c.seq) c,
         (select count(*) as rows, sum(hashtextextended(name, seq)) as places,
                 min(revision - seq) filter (where seq > $2) as min_shift, max(revision - seq) filter (where seq > $2) as max_shift
            from loom_change where state_key = $1 and name <> '') i`;

interface UnprovenRow {
  count: number;
  seq: number;
  name: string;
}

async function listUnproven(connection: Connection, stateKey: string): Promise<Mismatches> {
  const rows = await connection.rows<UnprovenRow>(
    `select least(a.seq, ${MAX_SEQ}) as seq, change ->> 'name' as name, ${COUNTED}
       from loom_audit a
      cross join lateral jsonb_array_elements(
        case when jsonb_typeof(a.entry -> 'changes') = 'array' then a.entry -> 'changes' end) e (change)
      where a.state_key = $1 and jsonb_typeof(change -> 'name') = 'string' and change ->> 'op' = 'put'
        and (change ->> 'sha256') collate "C" ~ '^[0-9a-f]{64}$'
        and change ->> 'sha256' is distinct from encode(loom_value_sha256(change -> 'value'), 'hex')
      order by 1, 2 ${LIST_LIMIT}`,
    [stateKey],
  );
  return toMismatches(rows, describeUnproven);
}

/** Describes a change whose digest is not that of its document. */
export function describeUnproven({ seq, name }: UnprovenRow): AuditMismatch {
  const detail = `The change of ${JSON.stringify(name)} in entry ${seq} does not make a document with the digest that it claims.`;
  return { reason: 'digest_mismatch', seq, document: name, detail };
}

interface Operations {
  recorded: Mismatches;
  untoldSeqs: number[];
  /** Whether the index has one row for each untold operation, and no other. */
  isIndexed: boolean;
  lastSeq: number;
  lastRecordedSeq: number;
}

/** Compares restores and undos with the entries that follow them, and finds the untold ones. */
async function checkOperations(connection: Connection, stateKey: string): Promise<Operations> {
  const row = await connection.firstRow<{
    wrong: { seq: number; claimed: string; recorded: number }[];
    wrong_count: number;
    untold: number[];
    is_indexed: boolean;
    last_seq: number;
    last_recorded_seq: number;
  }>(OPERATIONS, [stateKey]);
  if (row === undefined) throw new Error('an aggregate returns one row');
  return {
    recorded: {
      count: row.wrong_count,
      listed: row.wrong.map(({ seq, claimed, recorded }) => ({
        reason: 'changes_mismatch',
        seq,
        detail: `Entry ${seq} claims ${claimed} recorded changes, and the entries that follow it have ${recorded}.`,
      })),
    },
    untoldSeqs: row.untold,
    isIndexed: row.is_indexed,
    lastSeq: row.last_seq,
    lastRecordedSeq: row.last_recorded_seq,
  };
}

/**
 * Finds each restore and undo with another number of changes in the entries directly after it than it claims, and such
 * entries without a restore or undo. Reads the trail once.
 */
const OPERATIONS = `
  with entries as materialized (
    select least(seq, ${MAX_SEQ}) as seq, split_part(action, '.', 1) as operation, action in ('restore', 'undo') as is_first,
           loom_entry_is_told(entry) as is_told, entry -> action ->> 'recorded_changes' as claimed,
           case when jsonb_typeof(entry -> 'changes') = 'array' then jsonb_array_length(entry -> 'changes') else 0 end as changes
      from loom_audit
     where state_key = $1 and action in ('restore', 'restore.changes', 'undo', 'undo.changes')
  ), operations as (
    select coalesce(first_seq, min(seq)) as seq, coalesce(max(claimed) filter (where is_first), '0') as claimed,
           sum(changes)::bigint as recorded,
           first_seq is null or max(seq) <> first_seq + count(*) - 1 or count(distinct operation) > 1 as is_misplaced
      from (select *, max(seq) filter (where is_first) over (order by seq) as first_seq from entries) e
     group by first_seq
  ), wrong as (
    select seq, claimed, recorded from operations where is_misplaced or claimed <> recorded::text
  ), untold as (
    select seq from entries where is_first and not is_told
  ), indexed as (
    select least(seq, ${MAX_SEQ}) as seq, revision, op, sha256 from loom_change where state_key = $1 and name = ''
  )
  select (select count(*) from wrong) as wrong_count,
         (select coalesce(jsonb_agg(w), '[]') from (select * from wrong order by seq ${LIST_LIMIT}) w) as wrong,
         (select coalesce(jsonb_agg(seq order by seq), '[]') from untold join indexed using (seq)) as untold,
         (select array_agg(concat_ws(' ', seq, 0, 'unknown') order by seq) from untold) is not distinct from
         (select array_agg(concat_ws(' ', seq, revision, op, sha256) order by seq) from indexed) as is_indexed,
         (select coalesce(max(seq), 0) from entries where is_first) as last_seq,
         (select coalesce(max(seq), 0) from entries) as last_recorded_seq`;

async function listIndexFaults(connection: Connection, stateKey: string): Promise<Mismatches> {
  const rows = await connection.rows<{ count: number; seq: number; name: string; how: keyof typeof indexFaults }>(
    `with derived as (
       select * from ${DERIVED} d
        union all
       select '', seq, 0, 'unknown', null from loom_audit
        where state_key = $1 and action in ('restore', 'undo') and not loom_entry_is_told(entry)
     ), indexed as (
       select name, seq, revision, op, sha256 from loom_change where state_key = $1
     )
     select name, least(seq, ${MAX_SEQ}) as seq, ${COUNTED},
            case when i.op is null then 'missing' when d.op is null then 'extra' else 'edited' end as how
       from derived d full join indexed i using (name, seq)
      where (d.revision, d.op, d.sha256) is distinct from (i.revision, i.op, i.sha256)
      order by seq, name ${LIST_LIMIT}`,
    [stateKey],
  );
  return toMismatches(rows, ({ seq, name, how }) => ({
    reason: 'index_mismatch',
    seq,
    ...(name === '' ? {} : { document: name }),
    detail: `${indexFaults[how]} ${name === '' ? 'the restore or undo' : `the change of ${JSON.stringify(name)}`} in entry ${seq}.`,
  }));
}

const indexFaults = {
  missing: 'The index of changes has no row for',
  extra: 'The index of changes has a row that no entry explains, for',
  edited: 'The index of changes has a row that differs from',
};
