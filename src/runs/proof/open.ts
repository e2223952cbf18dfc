import { PassThrough, type Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { decryptStream } from '../../backup/stored/encryption.ts';
import type { WrittenBackup } from '../../domain/backup-run.ts';
import { codeOf, isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { RunParts } from '../parts.ts';
import { createDigestGate, type ExpectedBytes } from './gate.ts';

/** Describes a backup to open. `written` is what the catalogue has of it. */
export interface Openable {
  name: string;
  written: WrittenBackup;
  isEncrypted: boolean;
  /** Private keys; empty if nothing but its bytes can be compared. */
  identities: readonly string[];
}

/** Reads all stored bytes and compares them. Rejects with `stored_backup_damaged` or `stored_backup_missing`. */
export async function compareBytes(
  { store }: Pick<RunParts, 'store'>,
  expected: ExpectedBytes,
  signal: AbortSignal,
): Promise<void> {
  const sink = new PassThrough().resume();
  await pipeline(await store.get(expected.name, signal), createDigestGate(expected), sink, { signal });
}

/** Opens the stored bytes of a backup. The stream fails before its end unless they match the catalogue. */
export async function openStored(
  { store }: Pick<RunParts, 'store'>,
  name: string,
  { bytes, sha256 }: WrittenBackup,
  signal: AbortSignal,
): Promise<Readable> {
  const gate = createDigestGate({ name, bytes, sha256 });
  // The reader receives the error from the gate, which the pipeline destroys with it.
  pipeline(await store.get(name, signal), gate, { signal }).catch(() => undefined);
  return gate;
}

/**
 * Opens the text of a stored backup: decrypted and decompressed. The stream fails before its end unless the stored
 * bytes match the catalogue. Damage can first show as a fault of the decryption or decompression. The opening and the
 * stream then compare all stored bytes, and fail with `stored_backup_damaged`, which explains the fault.
 */
export async function openPlain(
  parts: Pick<RunParts, 'store'>,
  { name, written, isEncrypted, identities }: Openable,
  signal: AbortSignal,
): Promise<Readable> {
  const gate = await openStored(parts, name, written, signal);
  const explain = async (error: Error): Promise<Error> => {
    if (signal.aborted || !isOfDecoder(error, gate)) return error;
    try {
      await compareBytes(parts, { name, bytes: written.bytes, sha256: written.sha256 }, signal);
    } catch (damage) {
      return damage instanceof Error ? damage : error;
    }
    return isLoomError(error) ? error : undecodable(name, error);
  };
  const plain = createGunzip({ chunkSize: limits.gzipChunkBytes });
  try {
    const compressed = isEncrypted ? await decryptStream(gate, identities) : gate;
    pipeline(compressed, plain, { signal }).catch(() => undefined);
  } catch (error) {
    throw error instanceof Error ? await explain(error) : error;
  }
  return withFault(plain, explain);
}

/** Returns whether an error comes from the decryption or decompression, and not from the stored bytes before them. */
function isOfDecoder(error: Error, gate: Readable): boolean {
  return isLoomError(error) ? error !== gate.errored : codeOf(error)?.startsWith('Z_') === true;
}

/** Passes a stream on. Its reader receives the error that `map` returns in place of an error of the source. */
export function withFault(source: Readable, map: (error: Error) => Promise<Error>): Readable {
  const mapped = new PassThrough({
    destroy: (error, done) => {
      source.destroy();
      if (error === null) done(null);
      else map(error).then(done, done);
    },
  });
  pipeline(source, mapped).catch(() => undefined);
  return mapped;
}

function undecodable(name: string, error: Error): LoomError {
  return new LoomError(
    'backup_malformed',
    `The stored backup ${JSON.stringify(name)} has the bytes that were written, but they cannot be decompressed: ` +
      `${error.message}. Restore from another backup.`,
    { cause: error },
  );
}
