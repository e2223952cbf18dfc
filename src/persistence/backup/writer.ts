import { type BackupEncoder, createBackupEncoder } from '../../backup/format/encoder.ts';
import { type AuditHead, GENESIS_HASH } from '../../domain/audit.ts';
import { BACKUP_VERSION, type BackupHeader, type BackupOptions } from '../../domain/backup.ts';
import type { StateHead } from '../../domain/state.ts';
import type { Progress } from '../activity/operations.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import { FIELD_SEPARATOR, splitFields } from '../connection/copy.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { ALL_DOCUMENTS } from '../read/documents.ts';
import type { Sink } from '../read/stream.ts';
import { CURRENT_SCHEMA_VERSION } from '../schema/schema.ts';

/** What a backup reads before its first byte. */
export interface BackupHead {
  state: StateHead;
  header: BackupHeader;
}

/** The verdict on the chain of the entries in a backup. */
export interface ChainVerdict {
  ok: boolean;
  from_seq: number;
  to_seq: number;
  first_bad_seq: number | null;
}

export interface BackupRun extends BackupOptions {
  progress: Progress;
}

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
    // The backup of a newer, compatible schema has the form that this node knows.
    schema_version: Math.min(row?.schema_version ?? CURRENT_SCHEMA_VERSION, CURRENT_SCHEMA_VERSION),
    epoch: state.epoch,
    revision: state.revision,
    exported_at: row?.exported_at ?? '',
    state_updated_at: state.updatedAt,
  };
}

/** Writes a backup. Returns the verdict on its chain, or undefined when it contains no entries to check. */
export async function writeBackup(
  connection: Connection,
  { state, header }: BackupHead,
  run: BackupRun,
  sink: Sink,
): Promise<ChainVerdict | undefined> {
  const encoder = createBackupEncoder();
  await sink.write(encoder.begin(header));
  await writeDocuments(connection, encoder, sink, run.progress);
  await writeDigests(connection, encoder, sink);
  const previous = run.includeAudit ? await writeAudit(connection, encoder, sink, state.head, run) : state.head;
  await sink.write(encoder.end(state.head));
  const verdict = encoder.chainVerdict();
  if (verdict === undefined) return undefined;
  return {
    ok: verdict.ok,
    from_seq: previous.seq + 1,
    to_seq: state.head.seq,
    first_bad_seq: verdict.firstBadSeq,
  };
}

async function writeDocuments(
  connection: Connection,
  encoder: BackupEncoder,
  sink: Sink,
  progress: Progress,
): Promise<void> {
  for await (const lines of connection.copyOut(ALL_DOCUMENTS)) {
    progress.count({ documents: lines.length });
    await sink.write(Buffer.concat(lines.map((line) => encoder.document(...splitFields(line)))));
  }
}

/** Writes the digests in a second pass over the table: in memory they would grow with the state. */
async function writeDigests(connection: Connection, encoder: BackupEncoder, sink: Sink): Promise<void> {
  await sink.write(encoder.beginDigests());
  const query = `select name, encode(sha256, 'hex') from loom_document
    where state_key = current_setting('loom.state_key') order by name`;
  for await (const lines of connection.copyOut(query)) {
    await sink.write(
      lines
        .map((line) => {
          const [name, hex] = splitFields(line);
          return encoder.digest(name, hex.toString('latin1'));
        })
        .join(''),
    );
  }
}

/** Writes the entries. Returns the head before the first of them. */
async function writeAudit(
  connection: Connection,
  encoder: BackupEncoder,
  sink: Sink,
  head: AuditHead,
  { auditLimit, progress }: BackupRun,
): Promise<AuditHead> {
  const previous = await headBefore(
    connection.within(),
    auditLimit === undefined ? 1 : Math.max(1, head.seq - auditLimit + 1),
  );
  await connection.execute(`select set_config('loom.after', $1, true)`, [String(previous.seq)]);
  await sink.write(encoder.beginAudit(previous));
  // A reader has only the entry, not the column. An entry that contains another seq must not pass for verified.
  const query = `select case when entry -> 'seq' = to_jsonb(seq) then seq else 0 end, encode(hash, 'hex'), entry::text from loom_audit
    where state_key = current_setting('loom.state_key') and seq > current_setting('loom.after')::bigint order by seq`;
  for await (const lines of connection.copyOut(query)) {
    progress.count({ entries: lines.length });
    await sink.write(
      Buffer.concat(
        lines.map((line) => {
          const [seq, rest] = splitFields(line);
          const at = rest.indexOf(FIELD_SEPARATOR);
          return encoder.entry(Number(seq), rest.toString('latin1', 0, at), rest.subarray(at + 1));
        }),
      ),
    );
  }
  return previous;
}

/** Returns the head that the first entry of the backup is linked to. */
async function headBefore(queries: Queries, seq: number): Promise<AuditHead> {
  if (seq === 1) return { seq: 0, hash: GENESIS_HASH };
  const row = await queries.firstRow<AuditHead>(
    `select seq, encode(hash, 'hex') as hash from loom_audit
      where state_key = current_setting('loom.state_key') and seq = $1`,
    [seq - 1],
  );
  // Somebody has removed the entry by force. The chain is broken then: the backup is made all the same, and its manifest says so.
  return row ?? { seq: seq - 1, hash: GENESIS_HASH };
}
