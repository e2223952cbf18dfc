import type { AuditMismatch } from '../../domain/audit.ts';
import { commitActions } from '../../domain/commit.ts';
import type { Connection } from '../connection/connection.ts';
import { COUNTED, LIST_LIMIT, MAX_SEQ, type Mismatches, toMismatches } from './verify-changes.ts';
import { joinByIndex, planLinks } from './verify-plan.ts';

const COMMITS = `(${commitActions.map((action) => `'${action}'`).join(', ')})`;

/**
 * Selects the last restore that adopted or removed entries, as a seq. The entries before it can come from a backup that
 * LOOM did not make. The format allows any revision in them, or none.
 */
const LAST_REBASE = `(select coalesce(max(seq), 0) from loom_audit
    where state_key = $1 and action = 'restore'
      and (entry #> '{restore,adopted_entries}', entry #> '{restore,replaced_entries}') is distinct from ('0'::jsonb, '0'::jsonb))`;

/** The revision that the state row had before the entry `a`, as the entry tells it. `p` is the entry before. */
const BEFORE_REVISION = `case when a.action in ${COMMITS} then jsonb_path_query_first(a.entry, '$.revision - 1', '{}', true)
                when a.action = 'epoch' then a.entry #> '{epoch_change,previous_revision}'
                else a.entry -> 'revision' end`;

const BEFORE_EPOCH = `case when a.action = 'epoch' then a.entry #> '{epoch_change,previous_epoch}' else a.entry -> 'epoch' end`;

/** What the entry before leaves: the revision 0 if there is none. A missing entry is a fault of the chain. */
const AFTER_REVISION = `case when a.seq = 1 then '0' else p.entry -> 'revision' end`;

/**
 * Selects whether an epoch and a revision are those of a row that docs/repair-state.sql has created anew: ten hex
 * digits, and no smaller revision.
 */
function isRepaired(epoch: string, revision: string, lastRevision: string): string {
  return `coalesce((${epoch} #>> '{}') collate "C" ~ '^[0-9a-f]{10}$' and ${revision} >= ${lastRevision}, false)`;
}

/** Selects quickly that the entry `a` is a commit and continues `p`. Each operator decompresses a large entry. */
const CONTINUES = `a.action in ${COMMITS} and a.entry @> jsonb_build_object(
         'revision', jsonb_path_query_first(p.entry, '$.revision + 1', '{}', true), 'epoch', p.entry -> 'epoch')`;

/**
 * Selects whether the entry `a` does not continue the entry `p` before it. A commit has the next revision and the same
 * epoch. The entries of one restore or undo have the same of both. An undo tells what it found, and `listOperations`
 * compares that, because imports can be between the two.
 */
const IS_BROKEN = `case when p.seq is null and a.seq > 1 then false
       when ${CONTINUES} then false
       when a.action in ${COMMITS} or a.action in ('epoch', 'restore.changes', 'undo.changes')
                    or (p.action = 'audit.import' and a.action in ('audit.import', 'restore', 'undo'))
       then (${BEFORE_REVISION} is distinct from ${AFTER_REVISION} or ${BEFORE_EPOCH} <> p.entry -> 'epoch')
        and not (${BEFORE_EPOCH} is distinct from p.entry -> 'epoch'
                 and ${isRepaired(BEFORE_EPOCH, BEFORE_REVISION, AFTER_REVISION)}) else false end`;

interface BrokenRow {
  count: number;
  seq: number;
  last_seq: number;
  before_revision: string | null;
  after_revision: string | null;
  before_epoch: string | null;
  after_epoch: string | null;
}

/** What the other checks have found out about revisions and epochs. */
export interface SurveyedContinuity {
  /** Seq of the last entry of a restore or undo, with its recorded changes; 0 if there is none. */
  lastRecordedSeq: number;
  /** Whether all entries after that one have the epoch of the one before and the next revision. */
  isRecentContinuous: boolean;
}

/**
 * Compares the revision and epoch of each entry with those of the entry before. If someone edits them in the state
 * row, the next entry continues the edited values, and only this shows it. Reads no entry that the other checks have
 * compared.
 */
export async function checkContinuity(
  connection: Connection,
  stateKey: string,
  { lastRecordedSeq, isRecentContinuous }: SurveyedContinuity,
): Promise<Mismatches> {
  const upTo = isRecentContinuous ? lastRecordedSeq + 1 : MAX_SEQ;
  const found = [await listEntries(connection, stateKey, upTo), await listOperations(connection, stateKey)].map(
    (rows) => toMismatches(rows, describe),
  );
  return {
    count: found.reduce((sum, { count }) => sum + count, 0),
    listed: found.flatMap(({ listed }) => listed).sort((one, other) => (one.seq ?? 0) - (other.seq ?? 0)),
  };
}

/** Memory in which a join keeps an entry. */
const BYTES_OF_ENTRY = 1_000;

async function listEntries(connection: Connection, stateKey: string, upTo: number): Promise<BrokenRow[]> {
  const head = await connection.firstRow<{ seq: number }>(
    'select least(max(seq), $2) as seq from loom_audit where state_key = $1',
    [stateKey, upTo],
  );
  await planLinks(connection, stateKey, { entries: head?.seq ?? 0, bytesOfLink: BYTES_OF_ENTRY });
  const rows = await connection.rows<BrokenRow>(
    `select least(a.seq, ${MAX_SEQ}) as seq, least(coalesce(p.seq, 0), ${MAX_SEQ}) as last_seq, ${COUNTED},
            ${BEFORE_REVISION} #>> '{}' as before_revision, ${AFTER_REVISION} #>> '{}' as after_revision,
            ${BEFORE_EPOCH} #>> '{}' as before_epoch, p.entry ->> 'epoch' as after_epoch
       from loom_audit a left join loom_audit p on p.state_key = $1 and p.seq = a.seq - 1 and p.seq < $2
      where a.state_key = $1 and a.seq <= $2 and a.seq > ${LAST_REBASE} and ${IS_BROKEN}
      order by 1 ${LIST_LIMIT}`,
    [stateKey, upTo],
  );
  await joinByIndex(connection, false);
  return rows;
}

/**
 * Compares what each restore and undo found with the last entry before it. A removed entry cannot be compared. A
 * restore that replaces the state may do so because someone edited the row, and begins anew. The inner `offset` makes
 * PostgreSQL look up the entry by its key.
 */
function listOperations(connection: Connection, stateKey: string): Promise<BrokenRow[]> {
  return connection.rows<BrokenRow>(
    `select least(a.seq, ${MAX_SEQ}) as seq, last_seq, ${COUNTED}, before_revision #>> '{}' as before_revision,
            revision #>> '{}' as after_revision, before_epoch #>> '{}' as before_epoch, epoch #>> '{}' as after_epoch
       from (select seq, entry #> array[action, 'previous_revision'] as before_revision,
                    entry #> array[action, 'previous_epoch'] as before_epoch, entry #>> array[action, 'previous_head', 'hash'] as last_hash,
                    case when (entry #>> array[action, 'previous_head', 'seq']) collate "C" ~ '^[0-9]{1,15}$'
                         then (entry #>> array[action, 'previous_head', 'seq'])::bigint end as last_seq
               from loom_audit
              where state_key = $1 and action in ('restore', 'undo') and seq >= ${LAST_REBASE}
                and (action = 'undo' or entry #> '{restore,replaced_state}' = 'false')) a
      cross join lateral (
             select '0'::jsonb as revision, null::jsonb as epoch where last_seq = 0
              union all
             select entry -> 'revision', entry -> 'epoch' from loom_audit
              where state_key = $1 and seq = last_seq and encode(hash, 'hex') = last_hash offset 0) p
      where (before_revision <> revision or before_epoch <> epoch)
        and not (before_epoch is distinct from epoch and ${isRepaired('before_epoch', 'before_revision', 'revision')})
      order by 1 ${LIST_LIMIT}`,
    [stateKey],
  );
}

function describe(row: BrokenRow): AuditMismatch {
  const { seq, last_seq: lastSeq } = row;
  const differences = (['revision', 'epoch'] as const).flatMap((member) => {
    const [before, after] = [row[`before_${member}`] ?? 'none', row[`after_${member}`] ?? 'none'];
    if (before === after || (member === 'epoch' && row.after_epoch === null)) return [];
    return [`the ${member} ${before} instead of ${after}`];
  });
  const last = lastSeq === 0 ? 'no entry came before it' : `entry ${lastSeq} came before it`;
  return {
    reason: 'state_mismatch',
    seq,
    detail:
      `Entry ${seq} shows that the state row had ${differences.join(' and ')}, as ${last}. ` +
      'Someone changed the row between them.',
  };
}
