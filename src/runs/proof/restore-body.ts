import { Transform } from 'node:stream';
import type { BackupManifest } from '../../domain/backup.ts';
import { limits } from '../../limits.ts';

const MANIFEST_MEMBER = '\n"manifest":';

/**
 * Turns the text of a backup into the body of a restore into the scratch state `scratch`. Keeps the end of the text:
 * `manifest` returns the manifest in it, once all of the text has passed.
 */
export function createRestoreBody(scratch: string): { body: Transform; manifest(): BackupManifest | undefined } {
  const start = `{"confirm":"restore","into_scratch":${JSON.stringify(scratch)},"backup":`;
  const tail = createTail(limits.maxBackupMemberBytes + MANIFEST_MEMBER.length);
  let hasBegun = false;
  const body = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      if (!hasBegun) this.push(start);
      hasBegun = true;
      tail.add(chunk);
      done(null, chunk);
    },
    flush(done) {
      done(null, '}');
    },
  });
  return { body, manifest: () => readManifest(tail.read()) };
}

/** Keeps the last bytes of a stream: at least `bytes` of them, unless it is shorter. */
function createTail(bytes: number) {
  const chunks: Buffer[] = [];
  let kept = 0;
  return {
    add: (chunk: Buffer): void => {
      chunks.push(chunk);
      kept += chunk.length;
      for (let first = chunks[0]; first !== undefined && kept - first.length >= bytes; first = chunks[0]) {
        kept -= first.length;
        chunks.shift();
      }
    },
    read: (): string => Buffer.concat(chunks).toString('utf8'),
  };
}

/** Reads the manifest at the end of a backup that LOOM wrote. The restore has checked its form and its digests. */
function readManifest(tail: string): BackupManifest | undefined {
  const at = tail.lastIndexOf(MANIFEST_MEMBER);
  if (at === -1) return undefined;
  const text = tail.slice(at + MANIFEST_MEMBER.length).trimEnd();
  try {
    return JSON.parse(text.slice(0, -1)) as BackupManifest;
  } catch {
    return undefined;
  }
}
