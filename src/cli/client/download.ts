import { type FileHandle, writeFile } from 'node:fs/promises';
import { PassThrough } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip, createGzip } from 'node:zlib';
import { openBackupFile } from '../../backup/offline/file.ts';
import { type VerifiedBackup, verifyBackup } from '../../backup/offline/verifier.ts';
import type { BackupQuery, NodeClient } from '../../http/client/client.ts';
import { CURRENT_SCHEMA_VERSION } from '../../persistence/schema/schema.ts';
import { readableBytes, withFileHint } from '../file/file-fault.ts';
import { OWNER_ONLY } from '../file/part-file.ts';
import { createMeter, metered, type Progress } from '../terminal/progress.ts';
import type { SentFile } from './restore-body.ts';

/**
 * Streams a node's backup into an open file, or into a new file at this path. `query.gzip` alone decides whether the
 * file is gzip, even if a proxy has packed or unpacked the answer.
 */
export async function downloadBackup(
  client: NodeClient,
  query: BackupQuery,
  file: FileHandle | string,
  progress: Progress,
): Promise<void> {
  const { body, isGzip } = await client.openBackup(query);
  progress.begin('backup');
  const fits = isGzip === (query.gzip === true);
  const repacker = fits ? new PassThrough() : isGzip ? createGunzip() : createGzip();
  await pipeline(metered(body, progress.count), repacker, (chunks) =>
    writeFile(file, chunks, { flag: 'wx', mode: OWNER_ONLY }),
  );
}

/** Verifies a file as `verify` does. Rejects with a LoomError that has the code of a restore, or with `interrupted`. */
export async function verifyFile(
  { path, identities }: SentFile,
  progress: Progress,
  stop: AbortSignal,
): Promise<VerifiedBackup> {
  const open = await openBackupFile(path, { identities });
  progress.begin('verify', await readableBytes(path));
  const meter = createMeter(stop, progress);
  return await withFileHint(
    path,
    verifyBackup(() => meter(open()), { schemaVersion: CURRENT_SCHEMA_VERSION }),
  );
}
