import type { Readable } from 'node:stream';
import { entryForms } from '../../backup/check/entry-forms.ts';
import { type BackupItem, createRestoreDecoder, type Decoded } from '../../backup/format/decoder.ts';
import type { OperationContext } from '../../domain/store.ts';
import { limits } from '../../limits.ts';
import type { Progress } from '../activity/operations.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import type { CopyIn } from '../connection/copy.ts';
import { createYielder } from '../connection/yielder.ts';

/**
 * Creates temporary tables that end with the transaction: the only DDL outside `migrations/`. PostgreSQL derives their
 * columns as it derives those of the real tables. A malformed member of an entry becomes null, and `checkStage` reports
 * it. `loom_stage_missing` lists the entries that the live trail lacks, `loom_stage_change` the changes of documents.
 * last-changes.ts fills `loom_stage_last`, and recorded-changes.ts `loom_stage_recorded`.
 */
const STAGE = `
  create temporary table loom_stage_document (
    name text collate "C" not null,
    value jsonb not null,
    sha256 bytea not null generated always as (loom_value_sha256(value)) stored
  ) on commit drop;
  create temporary table loom_stage_digest (name text collate "C" not null, sha256 text not null) on commit drop;
  create temporary table loom_stage_audit (
    position bigint generated always as identity,
    line jsonb not null,
    seq bigint generated always as (
      case when jsonb_typeof(line -> 'seq') = 'number' and line ->> 'seq' ~ '${entryForms.seq}' then (line ->> 'seq')::bigint end) stored,
    hash bytea generated always as (
      case when line ->> 'hash' ~ '${entryForms.hash}' then decode(line ->> 'hash', 'hex') end) stored
  ) on commit drop;
  create temporary table loom_stage_missing (position bigint primary key) on commit drop;
  create temporary table loom_stage_change (name text collate "C" primary key, kind text not null) on commit drop;
  create temporary table loom_stage_last (
    name text collate "C" primary key, revision bigint, op text, sha256 bytea
  ) on commit drop;
  create temporary table loom_stage_recorded (
    chunk bigint not null, name text collate "C" not null, op text not null, revision bigint, sha256 bytea,
    primary key (chunk, name)
  ) on commit drop`;

const targets: Record<BackupItem['kind'], string> = {
  document: 'loom_stage_document (name, value)',
  digest: 'loom_stage_digest (name, sha256)',
  entry: 'loom_stage_audit (line)',
};

export async function createStage(queries: Queries): Promise<void> {
  await queries.execute(STAGE);
}

/** Analyzes the staged rows, so that PostgreSQL plans with their actual number. */
export async function analyzeStage(queries: Queries): Promise<void> {
  await queries.execute('analyze loom_stage_document');
  await queries.execute('create index on loom_stage_audit (seq)');
  await queries.execute('analyze loom_stage_audit');
}

export interface StageOptions {
  progress: Progress;
  /** The memory of the body. Without it, nothing bounds the memory of this restore. */
  memory?: OperationContext['memory'];
  /** Called once, before anything is staged, with the members of the request that the first chunk contains. */
  onBegin(request: Record<string, unknown>): Promise<void>;
}

/** Memory of an item for each of its bytes: its text, and the line for PostgreSQL. */
const ITEM_MEMORY_FACTOR = 2;

/**
 * Decodes the body as it arrives, and copies its documents, digests and entries into the staging tables. `connection`
 * must be in a transaction. If this rejects, no COPY is open, so the transaction can be rolled back.
 */
export async function stageBackup(
  connection: Connection,
  body: Readable,
  { progress, memory, onBegin }: StageOptions,
): Promise<Decoded> {
  await createStage(connection);
  const decoder = createRestoreDecoder();
  const copier = createCopier(connection);
  const yieldAfter = createYielder();
  let isFirst = true;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      progress.count({ bytes: chunk.length });
      const items = decoder.write(chunk);
      const itemBytes = items.reduce((sum, item) => sum + (item.kind === 'digest' ? 0 : item.text.length), 0);
      memory?.resize(limits.openBodyBytes + decoder.heldBytes() + ITEM_MEMORY_FACTOR * itemBytes);
      if (isFirst) await onBegin(decoder.whole.request);
      isFirst = false;
      for (const item of items) {
        if (item.kind === 'document') progress.count({ documents: 1 });
        if (item.kind === 'entry') progress.count({ entries: 1 });
        await copier.accept(item);
      }
      await yieldAfter(chunk.length);
    }
    const decoded = decoder.end();
    await copier.close();
    await analyzeStage(connection);
    return decoded;
  } catch (error) {
    await copier.abort();
    throw error;
  }
}

/** Copies items into their tables. One COPY is open at a time, because each member of a backup is contiguous. */
function createCopier(connection: Connection) {
  let open: { kind: BackupItem['kind']; copy: CopyIn } | undefined;

  async function close(): Promise<void> {
    await open?.copy.end();
    open = undefined;
  }

  return {
    accept: async (item: BackupItem): Promise<void> => {
      if (item.kind !== open?.kind) {
        await close();
        open = { kind: item.kind, copy: connection.openCopyIn(targets[item.kind]) };
      }
      await open.copy.write(...fieldsOf(item));
    },
    close,
    abort: async () => open?.copy.abort(),
  };
}

function fieldsOf(item: BackupItem): (string | Buffer)[] {
  if (item.kind === 'entry') return [item.text];
  return [item.name, item.kind === 'document' ? item.text : item.sha256];
}
