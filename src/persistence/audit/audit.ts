import type { Readable } from 'node:stream';
import type { Pool, PoolClient } from 'pg';
import {
  type AuditHead,
  type AuditLine,
  type AuditQuery,
  type AuditVerdict,
  type ChainFault,
  GENESIS_HASH,
} from '../../domain/audit.ts';
import type { AuditPage } from '../../domain/store.ts';
import { copyLines } from '../connection/copy.ts';
import { queryRows } from '../connection/query.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { readStateHead, selectStateKey } from '../read/state.ts';
import { openStream } from '../read/stream.ts';

/**
 * Text of an entry with its hash: `{"hash": "…", ` and the members of the entry. Somebody who tampers with the table may have left
 * none, or something that is no object; that is shown under the name `entry`.
 */
const LINE = `'{"hash": "' || encode(hash, 'hex') || '", ' ||
  case when jsonb_typeof(entry) = 'object' and entry <> '{}' then substr(entry::text, 2) else '"entry": ' || entry::text || '}' end`;

/** One page of entries, by seq. */
export async function readAudit(pool: Pool, stateKey: string, query: AuditQuery): Promise<AuditPage> {
  const descending = query.order === 'desc';
  const rows = await queryRows<AuditLine>(
    pool,
    `select seq, ${LINE} as text from loom_audit
      where state_key = $1 and seq > $2 and seq < $3
        and ($4::text is null or action = $4)
        and ($5::text is null or entry -> 'changes' @> jsonb_build_array(jsonb_build_object('name', $5::text)))
      order by seq ${descending ? 'desc' : 'asc'} limit $6`,
    [
      stateKey,
      query.after ?? 0,
      query.before ?? Number.MAX_SAFE_INTEGER,
      query.action ?? null,
      query.document ?? null,
      query.limit + 1,
    ],
  );
  const entries = rows.slice(0, query.limit);
  const next = rows.length > query.limit ? (entries.at(-1)?.seq ?? null) : null;
  const { head } = await readStateHead(pool, stateKey);
  return { entries, next, head };
}

/** All entries that the query selects, one JSON text a line, from one snapshot. */
export async function openAudit(pool: Pool, stateKey: string, query: Omit<AuditQuery, 'limit'>): Promise<Readable> {
  const { body } = await openStream(pool, {
    prepare: async (client) => {
      await selectStateKey(client, stateKey);
      await client.query(
        `select set_config('loom.after', $1, true), set_config('loom.before', $2, true),
                set_config('loom.action', $3, true), set_config('loom.document', $4, true)`,
        [
          String(query.after ?? 0),
          String(query.before ?? Number.MAX_SAFE_INTEGER),
          query.action ?? '',
          query.document === undefined ? '' : JSON.stringify([{ name: query.document }]),
        ],
      );
    },
    write: async (client, _head, sink) => {
      for await (const lines of copyLines(client, selectedEntries(query.order))) {
        await sink.write(Buffer.concat(lines.flatMap((line) => [line, NEWLINE])));
      }
    },
  });
  return body;
}

const NEWLINE = Buffer.from('\n');

function selectedEntries(order: 'asc' | 'desc'): string {
  return `select ${LINE} from loom_audit
    where state_key = current_setting('loom.state_key')
      and seq > current_setting('loom.after')::bigint and seq < current_setting('loom.before')::bigint
      and (current_setting('loom.action') = '' or action = current_setting('loom.action'))
      and (current_setting('loom.document') = '' or entry -> 'changes' @> nullif(current_setting('loom.document'), '')::jsonb)
    order by seq ${order === 'desc' ? 'desc' : 'asc'}`;
}

interface BadEntry {
  seq: number;
  reason: ChainFault;
  detail: string;
}

/**
 * Recomputes every hash of the chain in the database, and checks links, seqs, the columns beside the entry, and the head in
 * the state row. `client` must be in a snapshot transaction, so that row and chain are of one instant. A seq that somebody has
 * made larger than a number can be is one to be found, not to fail at.
 */
export async function verifyChain(client: PoolClient, stateKey: string): Promise<AuditVerdict> {
  const { head } = await readStateHead(client, stateKey);
  const counted = await client.query<{ entries: number; last_seq: number; last_hash: string | null }>(
    `select count(*) as entries, least(coalesce(max(seq), 0), ${Number.MAX_SAFE_INTEGER}) as last_seq,
            (select encode(hash, 'hex') from loom_audit where state_key = $1 order by seq desc limit 1) as last_hash
       from loom_audit where state_key = $1`,
    [stateKey],
  );
  const {
    entries,
    last_seq: lastSeq,
    last_hash: lastHash,
  } = counted.rows[0] ?? { entries: 0, last_seq: 0, last_hash: null };
  const bad = (await firstBadEntry(client, stateKey)) ?? headFault(head, lastSeq, lastHash);
  if (bad === undefined) return { ok: true, entries, head };
  return { ok: false, entries, head, first_bad_seq: bad.seq, reason: bad.reason, detail: bad.detail };
}

async function firstBadEntry(client: PoolClient, stateKey: string): Promise<BadEntry | undefined> {
  const { rows } = await client.query<{ seq: number; reason: ChainFault; expected_seq: number }>(
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
  const row = rows[0];
  if (row === undefined) return undefined;
  if (row.reason === 'seq_gap')
    return { seq: row.expected_seq, reason: 'seq_gap', detail: details.seq_gap(row.expected_seq) };
  return { seq: row.seq, reason: row.reason, detail: details[row.reason](row.seq) };
}

const details: Record<ChainFault, (seq: number) => string> = {
  seq_gap: (seq) => `Entry ${seq} is missing.`,
  hash_mismatch: (seq) => `The hash of entry ${seq} is not that of its content after the hash of the entry before it.`,
  seq_mismatch: (seq) => `The entry stored as ${seq} says that it is another.`,
  column_mismatch: (seq) => `A column of entry ${seq} contradicts the entry.`,
  head_mismatch: (seq) => `The state row names another hash for its head, entry ${seq}.`,
  entries_missing: (seq) => `The chain ends before entry ${seq}, although the state row names a later head.`,
};

function headFault(head: AuditHead, lastSeq: number, lastHash: string | null): BadEntry | undefined {
  const at = (seq: number, reason: ChainFault): BadEntry => ({ seq, reason, detail: details[reason](seq) });
  if (lastSeq < head.seq) return at(lastSeq + 1, 'entries_missing');
  if (lastSeq > head.seq) return at(head.seq + 1, 'head_mismatch');
  // Without entries it is the first one that would be linked to a wrong hash.
  if ((lastHash ?? GENESIS_HASH) !== head.hash) return at(Math.max(head.seq, 1), 'head_mismatch');
  return undefined;
}
