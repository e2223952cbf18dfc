import type { Readable } from 'node:stream';
import type { Pool, PoolClient } from 'pg';
import { type BackupEncoder, createBackupEncoder } from '../../backup/format/encoder.ts';
import { type AuditHead, GENESIS_HASH } from '../../domain/audit.ts';
import { BACKUP_VERSION, type BackupHeader, type BackupOptions } from '../../domain/backup.ts';
import type { StateHead } from '../../domain/state.ts';
import type { OperationContext, RunningOperation } from '../../domain/store.ts';
import { copyLines, FIELD_SEPARATOR, splitFields } from '../connection/copy.ts';
import { queryRows } from '../connection/query.ts';
import { rfc3339 } from '../connection/timestamp.ts';
import { ALL_DOCUMENTS, readStateHead, selectStateKey } from '../read/state.ts';
import { openStream, type Sink } from '../read/stream.ts';
import { CURRENT_SCHEMA_VERSION } from '../schema/schema.ts';

export interface ExportOptions extends BackupOptions {
  stateKey: string;
  /** Counted up while the backup is written. */
  progress: RunningOperation;
  onClose?(error: unknown): void;
  /** Told whether the chain of the entries in the backup holds, from which to which, once it is complete. */
  onChainVerdict?(verdict: { ok: boolean; firstBadSeq: number | null; fromSeq: number; toSeq: number }): void;
}

interface ExportHead {
  state: StateHead;
  header: BackupHeader;
}

/**
 * Streams a backup of the state: header, documents and audit entries are of one instant, and its manifest comes last, so
 * that what was cut off cannot pass for whole. Resolves once the snapshot is taken. Format: docs/backup-format.md.
 */
export async function openExport(pool: Pool, options: ExportOptions, context: OperationContext): Promise<Readable> {
  const { body } = await openStream<ExportHead>(pool, {
    prepare: async (client) => {
      await selectStateKey(client, options.stateKey);
      const state = await readStateHead(client, options.stateKey);
      return { state, header: await readHeader(client, state) };
    },
    write: (client, head, sink) => writeBackup(client, head, options, countingSink(sink, options.progress)),
    signal: context.signal,
    ...(options.onClose === undefined ? {} : { onClose: options.onClose }),
  });
  return body;
}

async function readHeader(client: PoolClient, state: StateHead): Promise<BackupHeader> {
  const rows = await queryRows<{ instance_id: string; schema_version: number; exported_at: string }>(
    client,
    `select (select value #>> '{}' from loom_meta where key = 'instance_id') as instance_id,
            (select value::int from loom_meta where key = 'schema_version') as schema_version,
            ${rfc3339('clock_timestamp()')} as exported_at`,
  );
  const row = rows[0];
  return {
    loom_backup_version: BACKUP_VERSION,
    backend: 'postgres',
    instance_id: row?.instance_id ?? '',
    state_key: state.stateKey,
    // A newer schema that is compatible with this node is exported in the shape that this node knows.
    schema_version: Math.min(row?.schema_version ?? CURRENT_SCHEMA_VERSION, CURRENT_SCHEMA_VERSION),
    epoch: state.epoch,
    revision: state.revision,
    exported_at: row?.exported_at ?? '',
    state_updated_at: state.updatedAt,
  };
}

async function writeBackup(
  client: PoolClient,
  { state, header }: ExportHead,
  options: ExportOptions,
  sink: Sink,
): Promise<void> {
  const encoder = createBackupEncoder();
  await sink.write(encoder.begin(header));
  await writeDocuments(client, encoder, sink, options.progress);
  await writeDigests(client, encoder, sink);
  const previous = options.includeAudit ? await writeAudit(client, encoder, sink, state.head, options) : state.head;
  await sink.write(encoder.end(state.head));
  const verdict = encoder.chainVerdict();
  if (verdict !== undefined) options.onChainVerdict?.({ ...verdict, fromSeq: previous.seq + 1, toSeq: state.head.seq });
}

async function writeDocuments(
  client: PoolClient,
  encoder: BackupEncoder,
  sink: Sink,
  progress: RunningOperation,
): Promise<void> {
  for await (const lines of copyLines(client, ALL_DOCUMENTS)) {
    progress.documents += lines.length;
    await sink.write(Buffer.concat(lines.map((line) => encoder.document(...splitFields(line)))));
  }
}

/** Read from their own column in a second pass: kept in memory they would grow with the state. */
async function writeDigests(client: PoolClient, encoder: BackupEncoder, sink: Sink): Promise<void> {
  await sink.write(encoder.beginDigests());
  const query = `select name, encode(sha256, 'hex') from loom_document
    where state_key = current_setting('loom.state_key') order by name`;
  for await (const lines of copyLines(client, query)) {
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

/** Answers the head before the first entry that was written. */
async function writeAudit(
  client: PoolClient,
  encoder: BackupEncoder,
  sink: Sink,
  head: AuditHead,
  { auditLimit, progress }: ExportOptions,
): Promise<AuditHead> {
  const previous = await headBefore(client, auditLimit === undefined ? 1 : Math.max(1, head.seq - auditLimit + 1));
  await client.query(`select set_config('loom.after', $1, true)`, [String(previous.seq)]);
  await sink.write(encoder.beginAudit(previous));
  // A reader has the entry alone, and not the column: one that says another seq of itself must not pass for checked.
  const query = `select case when entry -> 'seq' = to_jsonb(seq) then seq else 0 end, encode(hash, 'hex'), entry::text from loom_audit
    where state_key = current_setting('loom.state_key') and seq > current_setting('loom.after')::bigint order by seq`;
  for await (const lines of copyLines(client, query)) {
    progress.audit_entries += lines.length;
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

/** The entry that the first one of the backup is linked to. */
async function headBefore(client: PoolClient, seq: number): Promise<AuditHead> {
  if (seq === 1) return { seq: 0, hash: GENESIS_HASH };
  const rows = await queryRows<AuditHead>(
    client,
    `select seq, encode(hash, 'hex') as hash from loom_audit
      where state_key = current_setting('loom.state_key') and seq = $1`,
    [seq - 1],
  );
  const row = rows[0];
  // Taken out by force. The chain does not hold then, and the manifest will say so; the backup is made all the same.
  return row ?? { seq: seq - 1, hash: GENESIS_HASH };
}

function countingSink(sink: Sink, progress: RunningOperation): Sink {
  return {
    write: (bytes) => {
      progress.bytes += bytes.length;
      return sink.write(bytes);
    },
  };
}

/**
 * Notes that a whole backup was handed over; a later time never gives way to an earlier one. To a newer breaking schema
 * nothing is written, not even this.
 */
export async function recordBackup(pool: Pool, stateKey: string): Promise<void> {
  await queryRows(
    pool,
    `update loom_state set last_backup_at = greatest(last_backup_at, now())
      where state_key = $1
        and exists (select from loom_meta where key = 'schema_compatible_from' and value::int <= $2)`,
    [stateKey, CURRENT_SCHEMA_VERSION],
  );
}
