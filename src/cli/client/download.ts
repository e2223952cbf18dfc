import { type FileHandle, open, writeFile } from 'node:fs/promises';
import { type Duplex, PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { openBackupFile } from '../../backup/offline/file.ts';
import type { OpenBackup } from '../../backup/offline/read.ts';
import { type VerifiedBackup, verifyBackup } from '../../backup/offline/verifier.ts';
import type { BackupQuery, NodeClient } from '../../http/client/client.ts';
import { NodeError } from '../../http/client/node-error.ts';
import { CURRENT_SCHEMA_VERSION } from '../../persistence/schema/schema.ts';
import { createMeter, type Progress } from '../terminal/progress.ts';

/** Streams a node's backup into a file. `query.gzip` alone decides whether the file is gzip: a proxy may have repacked the answer. */
export async function downloadBackup(
  client: NodeClient,
  query: BackupQuery,
  file: FileHandle,
  progress: Progress,
): Promise<void> {
  const { body, isGzip } = await client.openBackup(query);
  progress.begin('backup');
  const meter = createMeter(progress.count);
  await pipeline(body, meter, repacker(isGzip, query.gzip === true), (chunks) => writeFile(file, chunks));
}

/** Streams a node's backup into a new file, as `downloadBackup` does. */
export async function downloadTo(
  path: string,
  client: NodeClient,
  query: BackupQuery,
  progress: Progress,
): Promise<void> {
  const file = await open(path, 'wx');
  try {
    await downloadBackup(client, query, file, progress);
  } finally {
    await file.close();
  }
}

function repacker(isGzip: boolean, wantsGzip: boolean): Duplex {
  if (isGzip === wantsGzip) return new PassThrough();
  return isGzip ? createGunzip() : createGzip();
}

/** Verifies a file as `verify` does. Rejects with a LoomError that has the code of a restore, or when `stop` aborts. */
export async function verifyFile(path: string, progress: Progress, stop: AbortSignal): Promise<VerifiedBackup> {
  const openAgain = await openBackupFile(path);
  progress.begin('verify');
  return await verifyBackup(watched(openAgain, progress, stop), { schemaVersion: CURRENT_SCHEMA_VERSION });
}

function watched(openAgain: OpenBackup, progress: Progress, stop: AbortSignal): OpenBackup {
  return async function* () {
    for await (const chunk of openAgain()) {
      if (stop.aborted) throw new NodeError('interrupted', 'Interrupted.');
      progress.count(chunk.length);
      yield chunk;
    }
  };
}
