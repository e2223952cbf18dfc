import { createHash } from 'node:crypto';
import type { UndoRecord } from '../../domain/undo.ts';
import { LoomError } from '../../errors.ts';
import type { Queries } from '../connection/connection.ts';
import { rfc3339 } from '../connection/timestamp.ts';

/** Names an undo record in the audit entry of an operation. The digest is null for a record of an older version. */
export interface NamedUndoRecord {
  event_id: string;
  sha256: string | null;
}

/** Holds the members of an undo record that its digest covers, in addition to what the record keeps. */
export type DigestedRecord = Pick<
  UndoRecord,
  'event_id' | 'kind' | 'revision' | 'previous_revision' | 'replaced_state'
>;

const ABSENT = `decode(repeat('00', 32), 'hex')`;

/** Items of one block. PostgreSQL hashes blocks, because one aggregate is limited to 1 GiB of memory. */
const BLOCK_ITEMS = 4_096;

interface Items {
  /** SQL of a query of `key`, which orders the items, and `item`, 64 bytes. */
  documents: string;
  entries: string;
}

/** Selects what an operation is about to replace: the staged changes, and the live entries after the seq $2. */
const LIVE: Items = {
  documents: `select c.name as key, sha256(convert_to(c.name, 'UTF8')) || coalesce(d.sha256, ${ABSENT}) as item
      from loom_stage_change c left join loom_document d on d.state_key = $1 and d.name = c.name`,
  entries: `select seq as key, hash || loom_value_sha256(entry) as item from loom_audit where state_key = $1 and seq > $2`,
};

/** Selects the same from the undo record of the revision $2. */
const KEPT: Items = {
  documents: `select name as key, sha256(convert_to(name, 'UTF8')) || coalesce(loom_value_sha256(value), ${ABSENT}) as item
      from loom_snapshot_document where state_key = $1 and revision = $2`,
  entries: `select seq as key, hash || loom_value_sha256(entry) as item
      from loom_snapshot_audit where state_key = $1 and revision = $2`,
};

/** Says what an operation replaces. `entriesAfter` is the seq after which it removes entries. */
export interface Replaced {
  documents: boolean;
  entriesAfter: number | undefined;
}

/**
 * Computes the digest of an undo record from the live rows that it is about to keep. docs/backup-format.md specifies
 * the digest. PostgreSQL hashes the rows: a result of many rows could not be sent to a lost node, and would keep the
 * state row locked.
 */
export async function digestReplaced(
  queries: Queries,
  stateKey: string,
  record: DigestedRecord,
  { documents, entriesAfter }: Replaced,
): Promise<string> {
  const counted = await digestItems(queries, documents ? LIVE : { ...LIVE, documents: NOTHING }, [
    stateKey,
    entriesAfter ?? Number.MAX_SAFE_INTEGER,
  ]);
  return digestRecord({ ...record, documents: counted.documents, audit_entries: counted.entries }, counted);
}

const NOTHING = `select null::text as key, null::bytea as item where $1::text is null and false`;

/** Computes the digest of a stored undo record from its rows. */
async function digestKept(queries: Queries, stateKey: string, record: UndoRecord): Promise<string> {
  return digestRecord(record, await digestItems(queries, KEPT, [stateKey, record.revision]));
}

interface ItemDigests {
  documents: number;
  documents_sha256: string;
  entries: number;
  entries_sha256: string;
}

async function digestItems(
  queries: Queries,
  { documents, entries }: Items,
  parameters: [stateKey: string, number],
): Promise<ItemDigests> {
  const row = await queries.firstRow<ItemDigests>(
    `select d.items as documents, d.sha256 as documents_sha256, e.items as entries, e.sha256 as entries_sha256
       from (${digestBlocks(documents)}) d, (${digestBlocks(entries)}) e`,
    parameters,
  );
  if (row === undefined) throw new Error('an aggregate returns one row');
  return row;
}

function digestBlocks(items: string): string {
  return `select coalesce(sum(items), 0)::bigint as items,
                 encode(sha256(coalesce(string_agg(block_sha256, '' order by block), '')), 'hex') as sha256
            from (select (place - 1) / ${BLOCK_ITEMS} as block, count(*) as items,
                         sha256(string_agg(item, '' order by place)) as block_sha256
                    from (select row_number() over (order by key) as place, item from (${items}) listed) placed
                   group by 1) blocks`;
}

function digestRecord(
  record: DigestedRecord & Pick<UndoRecord, 'documents' | 'audit_entries'>,
  digests: ItemDigests,
): string {
  const { kind, event_id, revision, previous_revision, replaced_state, documents, audit_entries } = record;
  const members = [kind, event_id, revision, previous_revision, replaced_state, documents, audit_entries];
  const text = JSON.stringify([...members, digests.documents_sha256, digests.entries_sha256]);
  return createHash('sha256').update(text).digest('hex');
}

/** Reads the undo records of a state, newest first. */
export function readUndoRecords(queries: Queries, stateKey: string): Promise<UndoRecord[]> {
  return queries.rows<UndoRecord>(
    `select event_id, kind, ${rfc3339('taken_at')} as taken_at, revision, previous_revision, replaced_state, documents,
            audit_entries, bytes, substantial
       from loom_snapshot where state_key = $1 order by revision desc`,
    [stateKey],
  );
}

/** Describes the audit entry of the operation that wrote the newest undo record. */
export interface RecordAnchor {
  recordedAt: string;
  /** Whether it is linked to the entry before it, and the next entry or the head of the state to it. */
  isLinked: boolean;
  /** The records that it names; undefined if a node of an older version wrote it. */
  named: NamedUndoRecord[] | undefined;
}

/**
 * Reads the audit entry that names the undo records: that of the newest one. It is in the live trail, because only a
 * newer operation could remove it. Returns undefined if it is missing.
 */
export async function readAnchor(
  queries: Queries,
  stateKey: string,
  newest: Pick<UndoRecord, 'event_id'>,
): Promise<RecordAnchor | undefined> {
  const row = await queries.firstRow<{ recorded_at: string; is_linked: boolean; named: NamedUndoRecord[] | null }>(
    `select a.entry ->> 'recorded_at' as recorded_at,
            a.hash = loom_chain_hash(coalesce(p.hash, ${ABSENT}), a.entry)
              and case when n.seq is null then s.audit_seq = a.seq and s.audit_hash = a.hash
                       else n.hash = loom_chain_hash(a.hash, n.entry) end as is_linked,
            a.entry -> a.action -> 'undo_records' as named
       from loom_audit a join loom_state s on s.state_key = $1
       left join loom_audit p on p.state_key = $1 and p.seq = a.seq - 1
       left join loom_audit n on n.state_key = $1 and n.seq = a.seq + 1
      where a.state_key = $1 and a.event_id = $2`,
    [stateKey, newest.event_id],
  );
  if (row === undefined) return undefined;
  return { recordedAt: row.recorded_at, isLinked: row.is_linked, named: row.named ?? undefined };
}

/**
 * Returns the digest of each of `records`, newest first, that the entry of the newest one names. Omits records without
 * a trustworthy name, so that a later undo refuses them.
 */
export async function readNamedRecords(
  queries: Queries,
  stateKey: string,
  records: Pick<UndoRecord, 'event_id'>[],
): Promise<NamedUndoRecord[]> {
  const newest = records[0];
  if (newest === undefined) return [];
  const anchor = await readAnchor(queries, stateKey, newest);
  if (anchor?.isLinked !== true) return [];
  const { named } = anchor;
  if (named === undefined) return records.map(({ event_id }) => ({ event_id, sha256: null }));
  return named.filter((one) => records.some(({ event_id }) => event_id === one.event_id));
}

/**
 * Checks undo records against the digests that the audit trail names. Returns true if all match, and null if nodes of
 * an older version wrote at least one of them without a digest. Throws `undo_record_damaged`.
 */
export async function verifyUndoRecords(
  queries: Queries,
  stateKey: string,
  anchor: RecordAnchor | undefined,
  records: UndoRecord[],
): Promise<true | null> {
  if (anchor === undefined) throw damaged(records[0], 'Its audit entry is missing from the trail.');
  if (!anchor.isLinked) throw damaged(records[0], 'The audit chain is broken at its entry or the next one.');
  let verified: true | null = true;
  for (const record of records) {
    const fault = await findRecordFault(queries, stateKey, anchor.named, record);
    if (fault === null) verified = null;
    else if (fault !== undefined) throw damaged(record, fault);
  }
  return verified;
}

/**
 * Compares an undo record with its digest in `named`, the names of the newest operation. Returns the fault, undefined
 * if the digest matches, and null if an older version wrote no digest.
 */
export async function findRecordFault(
  queries: Queries,
  stateKey: string,
  named: NamedUndoRecord[] | undefined,
  record: UndoRecord,
): Promise<string | null | undefined> {
  const name = named?.find(({ event_id }) => event_id === record.event_id);
  if (named !== undefined && name === undefined) return 'The audit trail does not name it.';
  const expected = name?.sha256 ?? null;
  if (expected === null) return null;
  if ((await digestKept(queries, stateKey, record)) === expected) return undefined;
  return 'Its content does not match the digest in the audit trail.';
}

export function damaged(record: Pick<UndoRecord, 'event_id'> | undefined, fault: string): LoomError {
  return new LoomError(
    'undo_record_damaged',
    `The undo record ${record?.event_id ?? ''} was changed in the database. ${fault} ` +
      'Find out who changed it, and restore a backup instead.',
  );
}
