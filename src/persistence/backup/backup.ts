// persistence/backup/ exports backups: it passes the state and its trail to the encoder of backup. It imports backup,
// domain, errors, limits and, of persistence, activity/, connection/, read/, schema/ and state/. It must not know
// restores.

import type { BackupManifest, BackupOptions } from '../../domain/backup.ts';
import type { MemoryBudget } from '../../domain/memory.ts';
import type { BackupStream, OperationContext } from '../../domain/store.ts';
import type { ChainChecks } from '../activity/chain-checks.ts';
import type { Operations } from '../activity/operations.ts';
import type { Database } from '../connection/database.ts';
import { openStream, type Sink } from '../read/stream.ts';
import { SCHEMA_SERVES } from '../schema/serves.ts';
import { assertConsistent } from '../state/consistency.ts';
import { findScratchKey } from '../state/scratch-states.ts';
import { readStateHead, selectStateKey } from '../state/state-row.ts';
import { type BackupHead, readHeader, writeBackup } from './writer.ts';

export interface BackupSource {
  database: Database;
  stateKey: string;
  operations: Operations;
  chainChecks: ChainChecks;
  /** The memory of all answers of the node. */
  memory?: MemoryBudget | undefined;
}

/**
 * Streams a backup of the state as of one instant. The manifest comes last, so a truncated backup is recognizably
 * incomplete. Resolves when the snapshot has been taken. Format: docs/backup-format.md.
 */
export async function openBackup(
  { database, stateKey, operations, chainChecks, memory }: BackupSource,
  options: BackupOptions,
  { requestId, signal, isPatient }: OperationContext,
): Promise<BackupStream> {
  const { scratch } = options;
  const operation = operations.begin('backup', requestId);
  let isBroken = false;
  let manifest: BackupManifest | undefined;
  const { head, body } = await openStream<BackupHead>(database, {
    prepare: async (connection) => {
      const key = scratch === undefined ? stateKey : await findScratchKey(connection.within(), scratch, stateKey);
      await selectStateKey(connection, key);
      const row = await readStateHead(connection.within(), key);
      await assertConsistent(connection, row);
      const state = { ...row, stateKey: scratch ?? stateKey };
      return { key, state, header: await readHeader(connection.within(), state) };
    },
    write: async (connection, head, sink, renew) => {
      const countingSink: Sink = {
        ...sink,
        write: (bytes) => {
          operation.count({ bytes: bytes.length });
          return sink.write(bytes);
        },
      };
      const renewSnapshot = async (): Promise<void> => {
        await renew();
        await selectStateKey(connection, head.key);
      };
      const output = { connection, sink: countingSink, progress: operation, renewSnapshot };
      const written = await writeBackup(output, head, options);
      manifest = written.manifest;
      const { verdict } = written;
      if (verdict === undefined || scratch !== undefined) return;
      isBroken = !verdict.ok;
      chainChecks.record({ by: 'backup', ...verdict });
    },
    signal,
    lane: 'operator',
    isPatient,
    memory,
    onClose: operation.finish,
  });
  // A backup with a broken chain is not restorable, and one of a scratch state does not protect the live state.
  const isRecorded = () => !isBroken && scratch === undefined;
  return {
    header: head.header,
    body,
    manifest: () => manifest,
    recordTaken: async () => (isRecorded() ? recordBackup(database, stateKey) : undefined),
  };
}

/**
 * Records the time of a complete backup. A later backup replaces the time of an earlier one even if the clock has gone
 * back since: otherwise a time in the future would stay until it has passed. Writes nothing if the schema no longer
 * serves this node.
 */
async function recordBackup(database: Database, stateKey: string): Promise<void> {
  await database.execute(
    `update loom_state set last_backup_at = clock_timestamp()
      where state_key = $1 and ${SCHEMA_SERVES}`,
    [stateKey],
  );
}
