import { createHash } from 'node:crypto';
import { Transform } from 'node:stream';
import { LoomError } from '../../errors.ts';

/** Describes the stored bytes that the catalogue or the manifest names. */
export interface ExpectedBytes {
  name: string;
  bytes: number;
  sha256: string;
}

/**
 * Passes the stored bytes of a backup on, and compares them with the expected ones. Holds back the last chunk until
 * they match. So no reader receives the end of a damaged backup: the stream fails with `stored_backup_damaged` first.
 */
export function createDigestGate(expected: ExpectedBytes): Transform {
  const hash = createHash('sha256');
  let bytes = 0;
  let held: Buffer | undefined;
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (chunk.length === 0) return done();
      hash.update(chunk);
      bytes += chunk.length;
      if (bytes > expected.bytes) return done(wrongSize(expected, `more than ${expected.bytes}`));
      const last = held;
      held = chunk;
      done(null, last);
    },
    flush(done) {
      if (bytes !== expected.bytes) return done(wrongSize(expected, String(bytes)));
      const found = hash.digest('hex');
      if (found !== expected.sha256) return done(wrongDigest(expected, found));
      done(null, held);
    },
  });
}

function wrongSize({ name, bytes }: ExpectedBytes, found: string): LoomError {
  return damaged(name, `it has ${found} bytes; ${bytes} were written`);
}

function wrongDigest({ name, sha256 }: ExpectedBytes, found: string): LoomError {
  return damaged(name, `the SHA-256 of its bytes is ${found}; that of the written bytes is ${sha256}`);
}

/** Creates the error for an object that is not the one that was written. */
export function damaged(name: string, found: string): LoomError {
  return new LoomError(
    'stored_backup_damaged',
    `The stored backup ${JSON.stringify(name)} is damaged or was replaced: ${found}. ` +
      'Restore from another backup, and look for the cause in the store.',
  );
}
