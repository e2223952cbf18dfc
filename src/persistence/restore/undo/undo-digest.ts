import { createHash } from 'node:crypto';
import type { UndoRecord } from '../../../domain/undo.ts';
import { LoomError } from '../../../errors.ts';
import type { Connection, Queries } from '../../connection/connection.ts';
import { selectStateKey } from '../../state/state-row.ts';

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

/** Selects what an operation is about to replace: the staged changes, and the live entries after `loom.after`. */
const LIVE = {
  documents: `select encode(sha256(convert_to(c.name, 'UTF8')) || coalesce(d.sha256, ${ABSENT}), 'hex')
      from loom_stage_change c
      left join loom_document d on d.state_key = current_setting('loom.state_key') and d.name = c.name
     order by c.name`,
  entries: `select encode(hash || loom_value_sha256(entry), 'hex') from loom_audit
     where state_key = current_setting('loom.state_key') and seq > current_setting('loom.after')::bigint order by seq`,
};

/** Selects the same from the undo record of the revision `loom.revision`. */
const KEPT = {
  documents: `select encode(sha256(convert_to(name, 'UTF8')) || coalesce(loom_value_sha256(value), ${ABSENT}), 'hex')
      from loom_snapshot_document
     where state_key = current_setting('loom.state_key') and revision = current_setting('loom.revision')::bigint
     order by name`,
  entries: `select encode(hash || loom_value_sha256(entry), 'hex') from loom_snapshot_audit
     where state_key = current_setting('loom.state_key') and revision = current_setting('loom.revision')::bigint
     order by seq`,
};

/** Says what an operation replaces. `entriesAfter` is the seq after which it removes entries. */
export interface Replaced {
  documents: boolean;
  entriesAfter: number | undefined;
}

/**
 * Computes the digest of an undo record from the live rows that it is about to keep. docs/backup-format.md specifies
 * the digest. Rows are streamed, so memory does not grow with the record.
 */
export async function digestReplaced(
  connection: Connection,
  stateKey: string,
  record: DigestedRecord,
  { documents, entriesAfter }: Replaced,
): Promise<string> {
  await selectStateKey(connection, stateKey);
  await connection.execute(`select set_config('loom.after', $1, true)`, [String(entriesAfter ?? 0)]);
  const digest = createRecordDigest();
  const counts = {
    documents: documents ? await digest.add(connection, LIVE.documents) : 0,
    audit_entries: entriesAfter === undefined ? 0 : await digest.add(connection, LIVE.entries),
  };
  return digest.end({ ...record, ...counts });
}

/** Computes the digest of a stored undo record from its rows. */
async function digestKept(connection: Connection, stateKey: string, record: UndoRecord): Promise<string> {
  await selectStateKey(connection, stateKey);
  await connection.execute(`select set_config('loom.revision', $1, true)`, [String(record.revision)]);
  const digest = createRecordDigest();
  await digest.add(connection, KEPT.documents);
  await digest.add(connection, KEPT.entries);
  return digest.end(record);
}

function createRecordDigest() {
  const hash = createHash('sha256');
  return {
    /** Adds the rows of a query, and returns their number. */
    add: async (connection: Connection, query: string): Promise<number> => {
      let rows = 0;
      for await (const lines of connection.copyOut(query)) {
        rows += lines.length;
        hash.update(Buffer.concat(lines).toString('latin1'), 'hex');
      }
      return rows;
    },
    end: (record: DigestedRecord & Pick<UndoRecord, 'documents' | 'audit_entries'>): string => {
      const { kind, event_id, revision, previous_revision, replaced_state, documents, audit_entries } = record;
      const members = [kind, event_id, revision, previous_revision, replaced_state, documents, audit_entries];
      return hash.update(JSON.stringify(members)).digest('hex');
    },
  };
}

/** Describes the audit entry of the operation that wrote the newest undo record. */
export interface RecordAnchor {
  recordedAt: string;
  /** Whether its hash matches its content and the entry before it. */
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
            a.hash = loom_chain_hash(coalesce(p.hash, ${ABSENT}), a.entry) as is_linked,
            a.entry -> a.action -> 'undo_records' as named
       from loom_audit a left join loom_audit p on p.state_key = $1 and p.seq = a.seq - 1
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
  connection: Connection,
  stateKey: string,
  anchor: RecordAnchor | undefined,
  records: UndoRecord[],
): Promise<true | null> {
  if (anchor === undefined) throw damaged(records[0], 'Its audit entry is missing from the trail.');
  if (!anchor.isLinked) throw damaged(records[0], 'The hash of its audit entry does not match.');
  let verified: true | null = true;
  for (const record of records) {
    const name = anchor.named?.find(({ event_id }) => event_id === record.event_id);
    if (anchor.named !== undefined && name === undefined) throw damaged(record, 'The audit trail does not name it.');
    const expected = name?.sha256 ?? null;
    if (expected === null) verified = null;
    else if ((await digestKept(connection, stateKey, record)) !== expected) {
      throw damaged(record, 'Its content does not match the digest in the audit trail.');
    }
  }
  return verified;
}

export function damaged(record: Pick<UndoRecord, 'event_id'> | undefined, fault: string): LoomError {
  return new LoomError(
    'undo_record_damaged',
    `The undo record ${record?.event_id ?? ''} was changed in the database. ${fault} ` +
      'Find out who changed it, and restore a backup instead.',
  );
}
