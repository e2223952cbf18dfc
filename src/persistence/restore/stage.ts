import type { Readable } from 'node:stream';
import {
  type BackupFrame,
  type BackupItem,
  createBackupDecoder,
  createRestoreDecoder,
  type Decoded,
  type Decoder,
} from '../../backup/format/decoder.ts';
import type { OperationContext } from '../../domain/store.ts';
import { isLoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Progress } from '../activity/operations.ts';
import type { Connection, Queries } from '../connection/connection.ts';
import type { CopyIn, CopyTarget } from '../connection/copy-in.ts';
import type { Yielder } from '../connection/yielder.ts';
import { createEntryStager, type EntryStager, entryColumns, type StagedEntries } from './stage-entries.ts';

/** Makes an analysis read some thousand of the staged entries: the seqs have no gaps. */
const SEQ_STATISTICS = 10;

/**
 * Creates temporary tables that end with the transaction: the only DDL outside `migrations/`. The node reads the
 * members of each entry. It computes the hash of a text in canonical form, and PostgreSQL that of any other one. In
 * `loom_stage_audit`, a null `seq` or `hash` is malformed, a null `action` was left to PostgreSQL, and so was a change
 * without `change_op`. `entry` lacks a well-formed hash. `loom_stage_missing` lists the entries that the live trail
 * lacks, `loom_stage_change` the changes of documents. last-changes.ts fills `loom_stage_last`, and recorded-changes.ts
 * `loom_stage_recorded`.
 */
const STAGE = `
  create temporary table loom_stage_document (
    name text collate "C" not null,
    value jsonb not null,
    sha256 bytea not null generated always as (loom_value_sha256(value)) stored
  ) on commit drop;
  create temporary table loom_stage_digest (name text collate "C" not null, sha256 text not null) on commit drop;
  create temporary table loom_stage_audit (
    position bigint not null,
    seq bigint,
    hash bytea,
    previous_hash bytea,
    event_id uuid,
    idempotency_key text collate "C",
    recorded_at timestamptz,
    action text,
    change_name text collate "C",
    change_revision bigint,
    change_op text,
    change_sha256 bytea,
    entry jsonb not null,
    is_linked boolean generated always as (
      case when previous_hash is not null then loom_chain_hash(previous_hash, entry) = hash end) stored
  ) on commit drop;
  alter table loom_stage_audit alter seq set statistics ${SEQ_STATISTICS};
  create temporary table loom_stage_missing (position bigint primary key) on commit drop;
  create temporary table loom_stage_change (name text collate "C" primary key, kind text not null) on commit drop;
  create temporary table loom_stage_last (
    name text collate "C" primary key, revision bigint, op text, sha256 bytea
  ) on commit drop;
  create temporary table loom_stage_recorded (
    chunk bigint not null, name text collate "C" not null, op text not null, revision bigint, sha256 bytea,
    primary key (chunk, name)
  ) on commit drop`;

/** Selects the staged entries with `line`, the entry as the backup has it. */
export const STAGED_LINES = `(select position, seq, hash, entry,
       case when hash is null then entry else entry || jsonb_build_object('hash', encode(hash, 'hex')) end as line
  from loom_stage_audit)`;

const targets: Record<BackupItem['kind'], CopyTarget> = {
  document: { table: 'loom_stage_document', columns: ['name', 'value'] },
  digest: { table: 'loom_stage_digest', columns: ['name', 'sha256'] },
  entry: { table: 'loom_stage_audit', columns: entryColumns },
};

export async function createStage(queries: Queries): Promise<void> {
  await queries.execute(STAGE);
}

/** Analyzes the staged rows, so that PostgreSQL plans with their actual number. */
export async function analyzeStage(queries: Queries): Promise<void> {
  await queries.execute('analyze loom_stage_document (name)');
  await queries.execute('analyze loom_stage_audit (seq)');
}

/** Prepares the staged entries for comparing them with those of a live trail. */
export async function indexStage(queries: Queries): Promise<void> {
  await queries.execute('create index on loom_stage_audit (seq)');
}

/** Holds what the node found out about a backup while it staged it. */
export interface Staged extends Decoded {
  entries: StagedEntries;
}

export interface StageOptions {
  progress: Progress;
  /** The memory of the body. Without it, nothing bounds the memory of this restore. */
  memory?: OperationContext['memory'];
  /** Called once, before anything is staged, with the members of the request that the first chunk contains. */
  onBegin(request: Record<string, unknown>): Promise<void>;
  /** Called with the whole body. Opens the stored backup that it names; undefined if the body has the backup. */
  openSource(body: Decoded): Promise<Readable | undefined>;
}

/** Memory of an item for each of its bytes: its text, and the row of COPY. */
const ITEM_MEMORY_FACTOR = 2;

/**
 * Decodes the body as it arrives, or the stored backup that it names, and copies documents, digests and entries into
 * the staging tables. `connection` must be in a transaction. If this rejects, no COPY is open, so the transaction can
 * be rolled back.
 */
export async function stageBackup(connection: Connection, body: Readable, options: StageOptions): Promise<Staged> {
  await createStage(connection);
  const decoder = createRestoreDecoder();
  const entries = createEntryStager();
  const copier = createCopier(connection, entries);
  const stage = createStager(entries, copier, { ...options, yieldAfter: connection.createYielder() });
  let hasBegun = false;
  try {
    const decoded = await stage(body, decoder, async () => {
      if (!hasBegun) await options.onBegin(decoder.whole.request);
      hasBegun = true;
    });
    const source = await options.openSource(decoded);
    const backup = source === undefined ? decoded.backup : await stageSource(source, stage);
    // The node sorts fingerprints while PostgreSQL stores the last rows and analyzes them.
    const [staged] = await Promise.all([entries.end(), copier.close().then(() => analyzeStage(connection))]);
    return { request: decoded.request, backup, entries: staged };
  } catch (error) {
    body.destroy();
    await copier.abort();
    throw error;
  }
}

/** Stages a stored backup. If its text has a fault and its bytes are damaged, rejects with the damage: the cause. */
async function stageSource(source: Readable, stage: Stage): Promise<BackupFrame> {
  try {
    return await stage(source, createBackupDecoder());
  } catch (error) {
    if (isLoomError(error) && error.status < 500) await readToEnd(source);
    throw error;
  } finally {
    source.destroy();
  }
}

/** Reads the rest, so that the stream compares all bytes. Rejects with what it finds. */
async function readToEnd(source: Readable): Promise<void> {
  for await (const _chunk of source);
}

type Stage = ReturnType<typeof createStager>;

/** Returns a function that stages one text. It calls `beforeItems` for each chunk, before anything of it is staged. */
function createStager(
  entries: EntryStager,
  copier: ReturnType<typeof createCopier>,
  { progress, memory, yieldAfter }: Pick<StageOptions, 'progress' | 'memory'> & { yieldAfter: Yielder },
) {
  return async <Whole>(text: Readable, decoder: Decoder<Whole>, beforeItems?: () => Promise<void>): Promise<Whole> => {
    for await (const chunk of text.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
      progress.count({ bytes: chunk.length });
      const items = decoder.write(chunk);
      const itemBytes = items.reduce((sum, item) => sum + (item.kind === 'digest' ? 0 : item.text.length), 0);
      memory?.resize(limits.openBodyBytes + decoder.heldBytes() + entries.heldBytes() + ITEM_MEMORY_FACTOR * itemBytes);
      if (beforeItems !== undefined) await beforeItems();
      for (const item of items) {
        const written = copier.accept(item);
        if (written !== undefined) await written;
      }
      progress.count(countItems(items));
      await yieldAfter(chunk.length);
    }
    return decoder.end();
  };
}

function countItems(items: BackupItem[]): { documents: number; entries: number } {
  const counts = { documents: 0, entries: 0 };
  for (const { kind } of items) {
    if (kind === 'document') counts.documents += 1;
    else if (kind === 'entry') counts.entries += 1;
  }
  return counts;
}

/** Copies items into their tables. One COPY is open at a time, because each member of a backup is contiguous. */
function createCopier(connection: Connection, entries: EntryStager) {
  let open: { kind: BackupItem['kind']; copy: CopyIn } | undefined;

  async function close(): Promise<void> {
    await open?.copy.end();
    open = undefined;
  }

  async function reopen(kind: BackupItem['kind']): Promise<CopyIn> {
    await close();
    const copy = connection.openCopyIn(targets[kind]);
    open = { kind, copy };
    return copy;
  }

  function add(item: BackupItem, copy: CopyIn): Promise<void> | undefined {
    if (item.kind === 'entry') {
      entries.add(item, copy.row);
    } else {
      copy.row.addText(item.name);
      if (item.kind === 'document') copy.row.addJson(item.text, 0, item.text.length);
      else copy.row.addText(item.sha256);
    }
    return copy.endRow();
  }

  return {
    accept: (item: BackupItem): Promise<void> | undefined => {
      if (item.kind === open?.kind) return add(item, open.copy);
      return reopen(item.kind).then((copy) => add(item, copy));
    },
    close,
    abort: async () => open?.copy.abort(),
  };
}
