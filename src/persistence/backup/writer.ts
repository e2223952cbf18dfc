import { type BackupEncoder, createBackupEncoder } from '../../backup/format/encoder.ts';
import { type AuditHead, GENESIS_HASH } from '../../domain/audit.ts';
import { BACKUP_VERSION, type BackupHeader, type BackupManifest, type BackupOptions } from '../../domain/backup.ts';
import type { StateHead } from '../../domain/state.ts';
import type { ChainCheckRecord } from '../../domain/store.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Progress } from '../activity/operations.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import type { RowBlock } from '../connection/copy.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { type Sink, writeParts } from '../read/stream.ts';
import { CURRENT_SCHEMA_VERSION } from '../schema/schema.ts';
import { assertTotals } from '../state/consistency.ts';

/** Holds what a backup reads before its first byte. */
export interface BackupHead {
  /** The key of the rows: that of a scratch state is not the one in its header. */
  key: string;
  state: StateHead;
  header: BackupHeader;
}

export interface BackupOutput {
  connection: Connection;
  sink: Sink;
  progress: Progress;
  /** Replaces the snapshot by a new one of the same state. */
  renewSnapshot(): Promise<void>;
}

export type ChainVerdict = Omit<ChainCheckRecord, 'by' | 'checked_at'>;

/** Reads the header of a backup of `state`. */
export async function readHeader(queries: Queries, state: StateHead): Promise<BackupHeader> {
  const row = await queries.firstRow<{ instance_id: string; schema_version: number; exported_at: string }>(
    `select (select value #>> '{}' from loom_meta where key = 'instance_id') as instance_id,
            (select value::int from loom_meta where key = 'schema_version') as schema_version,
            ${rfc3339('clock_timestamp()')} as exported_at`,
  );
  return {
    loom_backup_version: BACKUP_VERSION,
    backend: 'postgres',
    instance_id: row?.instance_id ?? '',
    state_key: state.stateKey,
    // With a newer, compatible schema, this node still writes the format that it knows.
    schema_version: Math.min(row?.schema_version ?? CURRENT_SCHEMA_VERSION, CURRENT_SCHEMA_VERSION),
    epoch: state.epoch,
    revision: state.revision,
    exported_at: row?.exported_at ?? '',
    state_updated_at: state.updatedAt,
  };
}

/** Holds what is known of a backup after its last byte. */
export interface WrittenBackup {
  manifest: BackupManifest;
  /** The verdict on its chain; undefined without entries. */
  verdict: ChainVerdict | undefined;
}

/** Writes a backup. */
export async function writeBackup(
  output: BackupOutput,
  { state, header }: BackupHead,
  { includeAudit, auditLimit }: BackupOptions,
): Promise<WrittenBackup> {
  const { sink } = output;
  const encoder = createBackupEncoder();
  await sink.write(encoder.begin(header));
  await writeDocuments(output, encoder, state);
  await writeDigests(output, encoder);
  const previous = includeAudit ? await writeAudit(output, encoder, state.head, auditLimit) : state.head;
  await sink.write(encoder.end(state.head));
  const manifest = encoder.manifest();
  if (manifest === undefined) throw new Error('the backup has no manifest');
  const found = encoder.chainVerdict();
  if (found === undefined) return { manifest, verdict: undefined };
  const { ok, firstBadSeq } = found;
  const range = { from_seq: previous.seq + 1, to_seq: state.head.seq };
  return { manifest, verdict: { ok, ...range, first_bad_seq: firstBadSeq } };
}

async function writeDocuments(
  { connection, sink, progress }: BackupOutput,
  encoder: BackupEncoder,
  state: StateHead,
): Promise<void> {
  const written = { documents: 0, bytes: 0 };
  const query = `select name, value from loom_document
    where state_key = current_setting('loom.state_key') order by name`;
  for await (const rows of connection.copyRows(query, sink)) {
    const { parts, documents, bytes } = encoder.documents(skipJsonVersion(rows, 2));
    written.documents += documents;
    written.bytes += bytes;
    progress.count({ documents });
    await writeParts(sink, parts);
  }
  assertTotals(state, written);
}

/** Writes the digests in a second pass over the table, because in memory they would grow with the state. */
async function writeDigests({ connection, sink }: BackupOutput, encoder: BackupEncoder): Promise<void> {
  await sink.write(encoder.beginDigests());
  const query = `select name, sha256 from loom_document
    where state_key = current_setting('loom.state_key') order by name`;
  for await (const rows of connection.copyRows(query)) await writeParts(sink, encoder.digests(rows));
}

/** Moves the start of the last of `columns` fields, a `jsonb`, to its text. */
function skipJsonVersion(rows: RowBlock, columns: number): RowBlock {
  for (let field = 2 * columns - 2; field < rows.fields.length; field += 2 * columns) {
    rows.fields[field] = (rows.fields[field] as number) + 1;
  }
  return rows;
}

/**
 * Writes the last `limit` entries, or all. Returns the head before the first of them.
 *
 * An entry never changes, so a few thousand at a time are read from a snapshot of their own. In one for all of them,
 * commits would take twice as long after half a minute. Only a restore that truncates the trail, or the drop of a
 * scratch state, removes entries: then the backup fails.
 */
async function writeAudit(
  output: BackupOutput,
  encoder: BackupEncoder,
  head: AuditHead,
  limit = head.seq,
): Promise<AuditHead> {
  const { connection, sink } = output;
  const previous = await headBefore(connection.within(), Math.max(1, head.seq - limit + 1));
  const last = await readLast(connection.within());
  await sink.write(encoder.beginAudit(previous));
  if (last === undefined) return previous;
  for (let after: string | undefined = String(previous.seq); after !== undefined; ) {
    await output.renewSnapshot();
    if ((await readHash(connection.within(), last.seq)) !== last.hash) throw entriesRemoved();
    after = await writeEntries(output, encoder, { after, upTo: last.seq });
  }
  return previous;
}

/** Writes the next entries of one snapshot. Returns the seq of the last of them, or undefined at the end. */
async function writeEntries(
  { connection, sink, progress }: BackupOutput,
  encoder: BackupEncoder,
  { after, upTo }: { after: string; upTo: string },
): Promise<string | undefined> {
  await connection.execute(`select set_config('loom.after', $1, true), set_config('loom.up_to', $2, true)`, [
    after,
    upTo,
  ]);
  const query = `select seq, hash, entry from loom_audit
    where state_key = current_setting('loom.state_key')
      and seq > current_setting('loom.after')::bigint and seq <= current_setting('loom.up_to')::bigint
    order by seq limit ${limits.maxSnapshotEntries}`;
  let written = 0;
  let lastSeq = after;
  for await (const rows of connection.copyRows(query, sink)) {
    const entries = rows.fields.length / ENTRY_POSITIONS;
    written += entries;
    lastSeq = String(rows.bytes.readBigInt64BE(rows.fields.at(-ENTRY_POSITIONS)));
    progress.count({ entries });
    await writeParts(sink, encoder.entries(skipJsonVersion(rows, 3)));
  }
  return written < limits.maxSnapshotEntries ? undefined : lastSeq;
}

/** Positions of the fields of an entry in a block: start and end of `seq`, `hash` and `entry`. */
const ENTRY_POSITIONS = 6;

/** Says that a client removed them, so it is no fault of the node that calls for an alarm. */
function entriesRemoved(): LoomError {
  const detail =
    'Entries of the audit trail were removed while the backup was read, by a restore that truncates the trail or by the ' +
    'drop of the scratch state. Take the backup again.';
  return new LoomError('restore_in_progress', detail, { retryAfterSeconds: 1 });
}

/** Returns the head that the first entry of the backup is linked to. */
async function headBefore(queries: Queries, seq: number): Promise<AuditHead> {
  if (seq === 1) return { seq: 0, hash: GENESIS_HASH };
  // If the entry was removed by force, the chain is broken. The manifest of the backup records this.
  return { seq: seq - 1, hash: (await readHash(queries, seq - 1)) ?? GENESIS_HASH };
}

/**
 * Returns the last entry. It is the head, unless somebody has changed rows by hand: then the manifest says so. Its seq
 * may be larger than a number can be.
 */
async function readLast(queries: Queries): Promise<{ seq: string; hash: string } | undefined> {
  return await queries.firstRow(
    `select seq::text, encode(hash, 'hex') as hash from loom_audit
      where state_key = current_setting('loom.state_key') order by loom_audit.seq desc limit 1`,
  );
}

/** Returns the stored hash of an entry; undefined if there is no such entry. */
async function readHash(queries: Queries, seq: number | string): Promise<string | undefined> {
  const row = await queries.firstRow<{ hash: string }>(
    `select encode(hash, 'hex') as hash from loom_audit
      where state_key = current_setting('loom.state_key') and seq = $1`,
    [seq],
  );
  return row?.hash;
}
