import { type AuditHead, type AuditVerdict, type ChainFault, GENESIS_HASH } from '../../domain/audit.ts';
import type { ChainChecks } from '../activity/chain-checks.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import type { Database } from '../connection/database.ts';
import { boundTransaction } from '../connection/session-bounds.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { assertTotals, countDocuments } from '../state/consistency.ts';
import { findScratchKey } from '../state/scratch-states.ts';
import { readStateHead } from '../state/state-row.ts';

/**
 * Verifies the chain of the state, or of its scratch state `scratch`. Records the verdict on the state only. If the
 * chain is valid, throws `state_inconsistent` unless the documents add up to the totals of the state row.
 */
export async function verifyAudit(
  { database, stateKey, chainChecks }: { database: Database; stateKey: string; chainChecks: ChainChecks },
  scratch: string | undefined,
): Promise<AuditVerdict> {
  const { verdict, state, found } = await database.transaction('snapshot', async (connection) => {
    await boundTransaction(connection);
    const verified = scratch === undefined ? stateKey : await findScratchKey(connection.within(), scratch, stateKey);
    return {
      verdict: await verifyChain(connection, verified),
      state: await readStateHead(connection.within(), verified),
      found: await countDocuments(connection, verified),
    };
  });
  if (scratch === undefined) {
    const { ok, head } = verdict;
    const firstBadSeq = ok ? null : verdict.first_bad_seq;
    chainChecks.record({ ok, by: 'verify', from_seq: 1, to_seq: head.seq, first_bad_seq: firstBadSeq });
  }
  if (verdict.ok) assertTotals(state, found);
  return verdict;
}

type BadEntry = { seq: number; reason: ChainFault };

/**
 * Recomputes every hash in the database, and checks links, seqs, columns and the head in the state row. Call it in a
 * snapshot transaction, so that row and chain are of one instant. A seq beyond 2^53 is reported as 2^53 - 1.
 */
export async function verifyChain(connection: Connection, stateKey: string): Promise<AuditVerdict> {
  const { head } = await readStateHead(connection.within(), stateKey);
  const chain = await connection.firstRow<{ entries: number; last_seq: number; last_hash: string | null }>(
    `select count(*) as entries, least(coalesce(max(seq), 0), ${Number.MAX_SAFE_INTEGER}) as last_seq,
            (select encode(hash, 'hex') from loom_audit where state_key = $1 order by seq desc limit 1) as last_hash
       from loom_audit where state_key = $1`,
    [stateKey],
  );
  const { entries = 0, last_seq: lastSeq = 0, last_hash: lastHash = null } = chain ?? {};
  const bad = (await firstBadEntry(connection, stateKey)) ?? headFault(head, lastSeq, lastHash);
  if (bad === undefined) return { ok: true, entries, head };
  const { seq, reason } = bad;
  return { ok: false, entries, head, first_bad_seq: seq, reason, detail: details[reason](seq) };
}

async function firstBadEntry(queries: Queries, stateKey: string): Promise<BadEntry | undefined> {
  const row = await queries.firstRow<{ seq: number; reason: ChainFault; expected_seq: number }>(
    `select least(seq, ${Number.MAX_SAFE_INTEGER}) as seq, expected_seq,
            case when seq <> expected_seq then 'seq_gap'
                 when hash <> expected_hash then 'hash_mismatch'
                 when entry -> 'seq' is distinct from to_jsonb(seq) then 'seq_mismatch'
                 else 'column_mismatch' end as reason
       from (select seq, hash, entry, event_id, idempotency_key, recorded_at, action,
                    coalesce(lag(seq) over chain, 0) + 1 as expected_seq,
                    loom_chain_hash(coalesce(lag(hash) over chain, decode(repeat('00', 32), 'hex')), entry) as expected_hash
               from loom_audit where state_key = $1
             window chain as (order by seq)) linked
      where seq <> expected_seq
         or hash <> expected_hash
         or entry -> 'seq' is distinct from to_jsonb(seq)
         or entry ->> 'event_id' is distinct from event_id::text
         or entry ->> 'idempotency_key' is distinct from idempotency_key
         or entry ->> 'action' is distinct from action
         or entry ->> 'recorded_at' is distinct from ${rfc3339('recorded_at')}
      order by linked.seq limit 1`,
    [stateKey],
  );
  if (row === undefined) return undefined;
  return { seq: row.reason === 'seq_gap' ? row.expected_seq : row.seq, reason: row.reason };
}

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
