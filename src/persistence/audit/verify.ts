import {
  type AuditHead,
  type AuditVerdict,
  type ChainFault,
  type ChainVerdict,
  GENESIS_HASH,
} from '../../domain/audit.ts';
import { limits } from '../../limits.ts';
import type { ChainChecks } from '../activity/chain-checks.ts';
import type { Connection } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { boundTransaction, detectLostNode } from '../connection/session-bounds.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { pinSearchPath, type Redefinition } from '../schema/definitions.ts';
import { lockRestores } from '../state/restore-lock.ts';
import { findScratchKey } from '../state/scratch-states.ts';
import { readStateHead } from '../state/state-row.ts';
import { checkChanges, MAX_SEQ, type Mismatches, NO_MISMATCHES } from './verify-changes.ts';
import { checkContinuity } from './verify-continuity.ts';
import { checkDefinitions, checkSample } from './verify-definitions.ts';
import { checkMerges } from './verify-merges.ts';
import { joinByIndex, planLinks, planReads } from './verify-plan.ts';
import { checkDocuments, checkStateRow } from './verify-state.ts';
import { checkUndoRecords } from './verify-undo-records.ts';

interface VerifiedState {
  database: Database;
  stateKey: string;
  chainChecks: ChainChecks;
  /** Aborts the verification, which can take minutes and several workers of PostgreSQL. */
  signal: AbortSignal;
  /** While others use the database, verifies without workers, and with pauses: see `OperationContext`. */
  isPatient?: boolean;
}

/**
 * Verifies the trail of the state, or of its scratch state `scratch`, and compares the state with it. Records the
 * verdict on the state only. All of it is of one snapshot. A patient verification of a scratch state locks it instead:
 * rejects with `restore_in_progress` if it is locked. Rejects with `client_gone` when `signal` aborts.
 */
export async function verifyAudit(
  { database, stateKey, chainChecks, signal, isPatient = false }: VerifiedState,
  scratch: string | undefined,
): Promise<AuditVerdict> {
  // Nobody changes a scratch state, so its lock serves as well as a snapshot, which would slow down commits to its end.
  const isLocked = isPatient && scratch !== undefined;
  const verify = async (connection: Connection): Promise<AuditVerdict> => {
    await boundTransaction(connection);
    await detectLostNode(connection);
    const shadowed = await pinSearchPath(connection.within());
    if (isLocked) await lockRestores(connection, scratch, 'scratch');
    const verified = scratch === undefined ? stateKey : await findScratchKey(connection.within(), scratch, stateKey);
    return verifyState(connection, verified, shadowed);
  };
  const verdict = await database.transaction(isLocked ? 'read' : 'snapshot', verify, { signal, isPatient });
  if (scratch === undefined) {
    const { ok, head } = verdict;
    const found = ok ? { first_bad_seq: null } : { first_bad_seq: verdict.first_bad_seq, reason: verdict.reason };
    chainChecks.record({ ok, by: 'verify', from_seq: 1, to_seq: head.seq, ...found });
  }
  return verdict;
}

/** Verifies the chain, and everything that the trail makes. Call it in a snapshot transaction. */
async function verifyState(connection: Connection, stateKey: string, shadowed: Redefinition[]): Promise<AuditVerdict> {
  const definitions = await checkDefinitions(connection.within(), shadowed);
  const state = await readStateHead(connection.within(), stateKey);
  const { chain, isOneEpoch } = await surveyChain(connection, stateKey);
  const changes = await checkChanges(connection, stateKey);
  const merges = await checkMerges(connection, stateKey, changes);
  const documents = await checkDocuments(connection, stateKey, changes);
  const compared = joinMismatches([
    changes.digests,
    merges,
    changes.recorded,
    changes.index,
    documents.mismatches,
    await checkContinuity(connection, stateKey, {
      lastRecordedSeq: changes.lastRecordedSeq,
      isRecentContinuous: isOneEpoch && changes.isShiftConstant(state.revision - state.head.seq),
    }),
    await checkStateRow(connection, state, documents.totals),
    await checkUndoRecords(connection, stateKey, changes),
  ]);
  const isWhole = chain.ok && compared.count === 0;
  const sampled = isWhole ? await checkSample(connection.within(), stateKey, chain.head) : NO_MISMATCHES;
  // First the functions that everything else rests on.
  const mismatches = joinMismatches([definitions, sampled, compared]);
  const checked = {
    entries: chain.entries,
    head: chain.head,
    told_from_seq: (changes.untoldSeqs.at(-1) ?? 0) + 1,
    untold_documents: documents.untold,
  };
  const [first] = mismatches.listed;
  const document = mismatches.listed.find((one) => one.document !== undefined)?.document;
  const lists = {
    ...(document === undefined ? {} : { document }),
    mismatches: mismatches.listed,
    mismatch_count: mismatches.count,
  };
  if (!chain.ok) {
    const { first_bad_seq, reason, detail } = chain;
    return { ok: false, ...checked, first_bad_seq, reason, detail, ...lists };
  }
  if (first === undefined) return { ok: true, ...checked };
  const { reason, detail, seq } = first;
  const isEntryFault = reason === 'digest_mismatch' || reason === 'changes_mismatch';
  return { ok: false, ...checked, first_bad_seq: isEntryFault ? (seq ?? null) : null, reason, detail, ...lists };
}

/** Joins the faults of all kinds, up to `limits.maxListedMismatches` of each. */
function joinMismatches(kinds: Mismatches[]): Mismatches {
  return {
    count: kinds.reduce((sum, { count }) => sum + count, 0),
    listed: kinds.flatMap(({ listed }) => listed.slice(0, limits.maxListedMismatches)),
  };
}

/**
 * Recomputes every hash in the database, and checks links, seqs, columns and the head in the state row. Call it in a
 * snapshot transaction, so that row and chain are of one instant. A seq beyond 2^53 is reported as 2^53 - 1.
 */
export async function verifyChain(connection: Connection, stateKey: string): Promise<ChainVerdict> {
  const { chain } = await surveyChain(connection, stateKey);
  return chain;
}

/** Verifies the chain. Also returns whether all entries since the last restore or undo have one epoch. */
async function surveyChain(
  connection: Connection,
  stateKey: string,
): Promise<{ chain: ChainVerdict; isOneEpoch: boolean }> {
  const { head } = await readStateHead(connection.within(), stateKey);
  await planReads(connection);
  await planLinks(connection, stateKey, { entries: head.seq, bytesOfLink: BYTES_OF_HASH });
  const found = await connection.firstRow<SurveyedChain>(chainSurvey(await connection.pausingAt('a.seq', 'a.entry')), [
    stateKey,
  ]);
  if (found === undefined) throw new Error('an aggregate returns one row');
  const { entries, last_seq: lastSeq, last_hash: lastHash, bad_seq: badSeq, is_one_epoch: isOneEpoch } = found;
  await joinByIndex(connection, true);
  const bad = badSeq === null ? undefined : await connection.firstRow<BadEntry>(BAD_ENTRY, [stateKey, badSeq]);
  await joinByIndex(connection, false);
  const fault = bad ?? headFault(head, lastSeq, lastHash);
  if (fault === undefined) return { chain: { ok: true, entries, head }, isOneEpoch };
  const { seq, reason } = fault;
  return { chain: { ok: false, entries, head, first_bad_seq: seq, reason, detail: details[reason](seq) }, isOneEpoch };
}

type BadEntry = { seq: number; reason: ChainFault };

interface SurveyedChain {
  entries: number;
  last_seq: number;
  last_hash: string | null;
  /** Digits of any number: it may be beyond 2^53. */
  bad_seq: string | null;
  is_one_epoch: boolean;
}

/** Selects whether the entry `a` contradicts its columns. */
const CONTRADICTS = `a.entry -> 'seq' is distinct from to_jsonb(a.seq)
           or a.entry ->> 'event_id' is distinct from a.event_id::text
           or a.entry ->> 'idempotency_key' is distinct from a.idempotency_key
           or a.entry ->> 'action' is distinct from a.action
           or a.entry ->> 'recorded_at' is distinct from ${rfc3339('a.recorded_at')}`;

/** Memory in which a join keeps the seq and hash of an entry. */
const BYTES_OF_HASH = 100;

const EXPECTED_HASH = `loom_chain_hash(coalesce(p.hash, decode(repeat('00', 32), 'hex')), a.entry)`;

/** Selects whether no restore or undo came after the entry `a`. */
const IS_RECENT = `a.seq >= (select coalesce(max(seq), 0) from loom_audit where state_key = $1 and action in ('restore', 'undo'))`;

const LAST_EPOCH = `(select entry ->> 'epoch' from loom_audit where state_key = $1 order by seq desc limit 1)`;

/**
 * Finds the first bad entry in one parallel pass. Each hash depends only on the stored hash of the entry before, so the
 * entries can be checked in any order. `is_one_epoch`: the recent entries have the same epoch.
 */
export const chainSurvey = (pausing = '') => `
  select s.entries, least(s.last_seq, ${MAX_SEQ}) as last_seq,
         (select encode(hash, 'hex') from loom_audit where state_key = $1 and seq = s.last_seq) as last_hash,
         s.bad_seq::text as bad_seq, s.other_epochs = 0 as is_one_epoch
    from (select count(*) as entries, coalesce(max(a.seq), 0) as last_seq,
                 min(a.seq) filter (where (p.seq is null and a.seq > 1) or a.hash <> ${EXPECTED_HASH} or ${CONTRADICTS}) as bad_seq,
                 count(*) filter (where ${IS_RECENT} and a.entry ->> 'epoch' is distinct from ${LAST_EPOCH}) as other_epochs
            from loom_audit a left join loom_audit p on p.state_key = $1 and p.seq = a.seq - 1
           where a.state_key = $1${pausing}) s`;

/** Selects what is wrong with the bad entry $2. An entry is missing if the one before has not the seq before. */
const BAD_ENTRY = `
  select least(case when reason = 'seq_gap' then expected_seq else seq end, ${MAX_SEQ}) as seq, reason
    from (select a.seq, coalesce(p.seq, 0) + 1 as expected_seq,
                 case when a.seq <> coalesce(p.seq, 0) + 1 then 'seq_gap'
                      when a.hash <> ${EXPECTED_HASH} then 'hash_mismatch'
                      when a.entry -> 'seq' is distinct from to_jsonb(a.seq) then 'seq_mismatch'
                      else 'column_mismatch' end as reason
            from loom_audit a
            left join lateral (
                   select seq, hash from loom_audit where state_key = $1 and seq < a.seq order by seq desc limit 1) p on true
           where a.state_key = $1 and a.seq = $2::bigint) b`;

function headFault(head: AuditHead, lastSeq: number, lastHash: string | null): BadEntry | undefined {
  if (lastSeq < head.seq) return { seq: lastSeq + 1, reason: 'entries_missing' };
  if (lastSeq > head.seq) return { seq: head.seq + 1, reason: 'head_mismatch' };
  // Without entries, the head must be the genesis hash, to which the first entry is linked.
  const isLinked = (lastHash ?? GENESIS_HASH) === head.hash;
  return isLinked ? undefined : { seq: Math.max(head.seq, 1), reason: 'head_mismatch' };
}

const details: Record<ChainFault, (seq: number) => string> = {
  seq_gap: (seq) => `Entry ${seq} is missing.`,
  hash_mismatch: (seq) => `The hash of entry ${seq} does not match its content and the hash of the entry before it.`,
  seq_mismatch: (seq) => `The seq inside entry ${seq} differs from its column.`,
  column_mismatch: (seq) => `A column of entry ${seq} differs from the entry.`,
  head_mismatch: (seq) => `The head in the state row does not match entry ${seq}.`,
  entries_missing: (seq) => `The chain ends before entry ${seq}, but the head in the state row is later.`,
};
