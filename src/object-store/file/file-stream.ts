import type { FileHandle } from 'node:fs/promises';
import { addAbortSignal, Readable } from 'node:stream';
import { limits } from '../../limits.ts';

/** Streams an open file, and closes it at the end. `run` bounds each read, and converts its error. */
export function readFileStream(
  handle: FileHandle,
  { signal, run }: { signal: AbortSignal; run: <T>(call: () => Promise<T>) => Promise<T> },
): Readable {
  const stream = new Readable({
    highWaterMark: limits.fileReadBytes,
    read: () => {
      run(() => handle.read(Buffer.allocUnsafeSlow(limits.fileReadBytes), 0, limits.fileReadBytes, null)).then(
        ({ bytesRead, buffer }) => stream.push(bytesRead === 0 ? null : buffer.subarray(0, bytesRead)),
        (error: Error) => stream.destroy(error),
      );
    },
    destroy: (error, done) => {
      // The close waits for a read in flight. The stream need not: that read may never return.
      handle.close().catch(() => undefined);
      done(error);
    },
  });
  return addAbortSignal(signal, stream);
}
