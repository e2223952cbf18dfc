// persistence/backup/ exports backups: it passes the state and its trail to the encoder of backup. It imports backup,
// domain and, of persistence, activity/, connection/, read/, schema/ and state/. It must not know restores.

import type { BackupOptions } from '../../domain/backup.ts';
import type { MemoryBudget } from '../../domain/memory.ts';
import type { BackupStream, OperationContext } from '../../domain/store.ts';
import type { ChainChecks } from '../activity/chain-checks.ts';
import type { Operations } from '../activity/operations.ts';
import type { Database } from '../connection/database.ts';
import { openStream, type Sink } from '../read/stream.ts';
import { SCHEMA_SERVES } from '../schema/serves.ts';
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
 * Streams a backup of the state. All parts are of one transaction snapshot. The manifest comes last, so a truncated
 * backup is recognizably incomplete. Resolves when the snapshot has been taken. Format: docs/backup-format.md.
 */
export async function openBackup(
  { database, stateKey, operations, chainChecks, memory }: BackupSource,
  options: BackupOptions,
  { requestId, signal }: OperationContext,
): Promise<BackupStream> {
  const operation = operations.begin('backup', requestId);
  let isBroken = false;
  const { body } = await openStream<BackupHead>(database, {
    prepare: async (connection) => {
      await selectStateKey(connection, stateKey);
      const state = await readStateHead(connection.within(), stateKey);
      return { state, header: await readHeader(connection.within(), state) };
    },
    write: async (connection, head, sink) => {
      const countingSink: Sink = {
        ...sink,
        write: (bytes) => {
          operation.count({ bytes: bytes.length });
          return sink.write(bytes);
        },
      };
      const output = { connection, sink: countingSink, progress: operation };
      const verdict = await writeBackup(output, head, options);
      if (verdict === undefined) return;
      isBroken = !verdict.ok;
      chainChecks.record({ by: 'backup', ...verdict });
    },
    signal,
    memory,
    onClose: operation.finish,
  });
  // A backup with a broken chain is not restorable, so its time is not recorded.
  return { body, recordTaken: async () => (isBroken ? undefined : recordBackup(database, stateKey)) };
}

/**
 * Records the time of a complete backup. An earlier time never replaces a later one. Writes nothing if the schema no
 * longer serves this node.
 */
async function recordBackup(database: Database, stateKey: string): Promise<void> {
  await database.execute(
    `update loom_state set last_backup_at = greatest(last_backup_at, now())
      where state_key = $1 and ${SCHEMA_SERVES}`,
    [stateKey],
  );
}
