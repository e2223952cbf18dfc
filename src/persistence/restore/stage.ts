import type { Readable } from 'node:stream';
import type { PoolClient } from 'pg';
import { type BackupItem, createRestoreDecoder, type Decoded, type Decoder } from '../../backup/format/decoder.ts';
import type { RunningOperation } from '../../domain/store.ts';
import { type CopyIn, openCopyIn } from '../connection/copy.ts';
import { createYielder } from '../connection/event-loop.ts';

/**
 * Temporary tables, gone with the transaction: the one place where DDL does not live in `migrations/`. What they derive
 * is derived by PostgreSQL in the same way as in the real tables. A member of an entry that has the wrong form
 * becomes null, for `checkStage` to find. `loom_stage_missing` holds the entries that the live trail does not, and
 * `loom_stage_change` the names of the documents that are to change, and how.
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
      case when jsonb_typeof(line -> 'seq') = 'number' and line ->> 'seq' ~ '^[1-9][0-9]{0,14}$' then (line ->> 'seq')::bigint end) stored,
    hash bytea generated always as (
      case when line ->> 'hash' ~ '^[0-9a-f]{64}$' then decode(line ->> 'hash', 'hex') end) stored
  ) on commit drop;
  create temporary table loom_stage_missing (position bigint primary key) on commit drop;
  create temporary table loom_stage_change (name text collate "C" primary key, kind text not null) on commit drop`;

const targets: Record<BackupItem['kind'], string> = {
  document: 'loom_stage_document (name, value)',
  digest: 'loom_stage_digest (name, sha256)',
  entry: 'loom_stage_audit (line)',
};

export async function createStage(client: PoolClient): Promise<void> {
  await client.query(STAGE);
}

/** To be called when everything is staged: without it PostgreSQL plans for tables of unknown size. */
export async function analyzeStage(client: PoolClient): Promise<void> {
  await client.query('analyze loom_stage_document');
  await client.query('create index on loom_stage_audit (seq)');
  await client.query('analyze loom_stage_audit');
}

export interface StageOptions {
  progress: RunningOperation;
  /** Called once, when the first bytes have been decoded and before anything is staged, with what they say of the request. */
  onBegin(request: Record<string, unknown>): Promise<void>;
}

/**
 * Decodes the body as it arrives and copies its documents, digests and entries into the staging tables. `client` must be in
 * a transaction; when this rejects, no COPY is left open, so that the transaction can be rolled back.
 */
export async function stageBackup(client: PoolClient, body: Readable, options: StageOptions): Promise<Decoded> {
  await createStage(client);
  const decoder = createRestoreDecoder();
  const copier = createCopier(client);
  try {
    const decoded = await decodeInto(copier, decoder, body, options);
    await copier.close();
    await analyzeStage(client);
    return decoded;
  } catch (error) {
    await copier.abort();
    throw error;
  }
}

async function decodeInto(
  copier: Copier,
  decoder: Decoder<Decoded>,
  body: Readable,
  { progress, onBegin }: StageOptions,
): Promise<Decoded> {
  const turn = createYielder();
  for await (const chunk of body as AsyncIterable<Buffer>) {
    const isFirst = progress.bytes === 0;
    progress.bytes += chunk.length;
    const items = decoder.write(chunk);
    if (isFirst) await onBegin(decoder.whole.request);
    for (const item of items) {
      if (item.kind === 'document') progress.documents += 1;
      if (item.kind === 'entry') progress.audit_entries += 1;
      await copier.accept(item);
    }
    await turn(chunk.length);
  }
  return decoder.end();
}

interface Copier {
  accept(item: BackupItem): Promise<void>;
  close(): Promise<void>;
  abort(): Promise<void>;
}

/** One COPY is open at a time; members of a backup come in any order, but the items of each stand together. */
function createCopier(client: PoolClient): Copier {
  let kind: BackupItem['kind'] | undefined;
  let copy: CopyIn | undefined;

  async function close(): Promise<void> {
    await copy?.end();
    copy = undefined;
    kind = undefined;
  }

  return {
    accept: async (item) => {
      if (item.kind !== kind) {
        await close();
        kind = item.kind;
        copy = openCopyIn(client, targets[item.kind]);
      }
      await copy?.write(...fieldsOf(item));
    },
    close,
    abort: async () => copy?.abort(),
  };
}

function fieldsOf(item: BackupItem): (string | Buffer)[] {
  switch (item.kind) {
    case 'document':
      return [item.name, item.text];
    case 'digest':
      return [item.name, item.sha256];
    case 'entry':
      return [item.text];
  }
}
