import { createHash } from 'node:crypto';
import type { Readable } from 'node:stream';
import type { WrittenObject } from '../domain/object-store.ts';

/** Runs a `put`, and destroys its content at the end. An error of the content that nobody awaits yet is kept in it. */
export async function withContent<T>(content: Readable, put: () => Promise<T>): Promise<T> {
  content.on('error', () => undefined);
  try {
    return await put();
  } finally {
    content.destroy();
  }
}

/**
 * Passes the content on, one chunk after the other, and counts and hashes it. Destroys it as soon as the signal aborts
 * or a write fails. Rejects with the error of the content unchanged.
 */
export async function writeContent(
  content: Readable,
  signal: AbortSignal,
  write: (chunk: Uint8Array) => Promise<void>,
): Promise<WrittenObject> {
  signal.throwIfAborted();
  const hash = createHash('sha256');
  let bytes = 0;
  const abort = (): void => {
    content.destroy(signal.reason instanceof Error ? signal.reason : new Error(String(signal.reason)));
  };
  signal.addEventListener('abort', abort);
  try {
    for await (const chunk of content as AsyncIterable<Uint8Array>) {
      hash.update(chunk);
      bytes += chunk.length;
      await write(chunk);
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
  signal.throwIfAborted();
  return { bytes, sha256: hash.digest('hex') };
}
