import { stat } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { gzipSync } from 'node:zlib';
import { openDecryptedFile } from '../../backup/offline/file.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { RestoreMembers } from '../../domain/request.ts';
import type { NodeClient } from '../../http/client/client.ts';
import type { Progress } from '../terminal/progress.ts';
import { withHint } from './hints.ts';
import { whileWatched } from './watch.ts';

/** Names the option that allows a refused restore, by error code. The node's message names only request members. */
const OPTION_HINTS = {
  state_key_mismatch: 'On this command line: --accept-state-key KEY.',
  backup_unverified: 'To restore it nevertheless: --accept-unverified.',
};

/** A backup file to send, with the secret keys that decrypt it. */
export interface SentFile {
  path: string;
  identities?: readonly string[] | undefined;
}

/** Sends a restore request and shows its progress. If an option allows a refused restore, the error names it. */
export async function sendRestore(
  client: NodeClient,
  file: SentFile,
  members: RestoreMembers,
  progress: Progress,
): Promise<RestoreReport> {
  const isPlan = members.dry_run === true;
  let sent = 0;
  const { body, isGzip, totalBytes } = await openRestoreBody(file, members, (bytes) => {
    sent += bytes;
    progress.count(bytes);
    if (sent >= totalBytes) progress.begin(isPlan ? 'the node checks and plans' : 'the node checks and applies');
  });
  progress.begin(isPlan ? 'plan' : 'restore', totalBytes);
  const work = whileWatched(client, progress, (requestId) => client.restore(body, isGzip, requestId));
  return await withHint(OPTION_HINTS, work);
}

/** Sends a request to restore the stored backup `from`, as `sendRestore` does for a file. */
export async function sendStoredRestore(
  client: NodeClient,
  members: RestoreMembers & { from: string },
  progress: Progress,
): Promise<RestoreReport> {
  progress.begin(
    members.dry_run === true ? 'the node reads the store and plans' : 'the node reads the store and applies',
  );
  const body = JSON.stringify({ confirm: 'restore', ...members });
  const work = whileWatched(client, progress, (requestId) => client.restore(Readable.from([body]), false, requestId));
  return await withHint(OPTION_HINTS, work);
}

/**
 * Opens a stream of a restore request around a backup file. It reads the file while it is sent. A gzip file stays
 * packed: concatenated gzip members are one gzip stream (RFC 1952), so the text around the file is packed separately.
 * `backup` is the last member, so that the node knows the options before the first document. An encrypted file is
 * decrypted here: the request is as confidential as the connection.
 */
export async function openRestoreBody(
  { path, identities }: SentFile,
  members: RestoreMembers,
  onBytes: (bytes: number) => void,
) {
  const { isGzip, open } = await openDecryptedFile(path, { identities, onChunk: ({ length }) => onBytes(length) });
  const { size: totalBytes } = await stat(path);
  const defaults = { replace_state: true, truncate_audit: false, dry_run: false, accept_unverified: false };
  const around = JSON.stringify({ confirm: 'restore', ...defaults, ...members });
  const pack = (text: string): Buffer => (isGzip ? gzipSync(text) : Buffer.from(text));
  async function* chunks() {
    yield pack(`${around.slice(0, -1)},"backup":`);
    yield* (await open()) as AsyncIterable<Buffer>;
    yield pack('}');
  }
  return { body: Readable.from(chunks(), { objectMode: false }), isGzip, totalBytes };
}
