import { addAbortSignal, Readable } from 'node:stream';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';

interface StreamOptions {
  /** Continues "Could not …", for errors. */
  doing: string;
  /** Size of the object; undefined if the service did not tell. */
  bytes: number | undefined;
  idleTimeoutMs: number;
  signal: AbortSignal;
  toFault(error: unknown): Error;
}

/**
 * Streams the body of an answer. Fails if it stands still, if it is far too slow, or if it ends early. Only the time in
 * which the reader waits for the service counts.
 */
export function readObjectStream(body: Readable, options: StreamOptions): Readable {
  const { doing, bytes, idleTimeoutMs, signal, toFault } = options;
  // The reader gets the error from `pull`. After a destroy, nobody asks for it.
  body.on('error', () => undefined);
  const chunks = body[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>;
  let arrived = 0;
  let waitedMs = 0;

  const unreachable = (found: string): LoomError =>
    new LoomError('store_unreachable', `Could not ${doing}: ${found} Check the network and the service.`);

  async function pull(): Promise<void> {
    const begunAt = performance.now();
    const timer = setTimeout(
      () => stream.destroy(unreachable(`no byte has arrived for ${idleTimeoutMs / 1000} s.`)),
      idleTimeoutMs,
    );
    try {
      const { value, done } = await chunks.next();
      waitedMs += performance.now() - begunAt;
      if (done === true) {
        if (bytes === undefined || arrived === bytes) stream.push(null);
        else stream.destroy(unreachable(`the answer has ended after ${arrived} of ${bytes} bytes.`));
        return;
      }
      arrived += value.length;
      const isSlow = waitedMs > idleTimeoutMs && arrived / (waitedMs / 1000) < limits.minS3BytesPerSecond;
      if (isSlow)
        stream.destroy(unreachable(`only ${arrived} bytes have arrived in ${Math.round(waitedMs / 1000)} s.`));
      else stream.push(value);
    } catch (error) {
      stream.destroy(toFault(error));
    } finally {
      clearTimeout(timer);
    }
  }

  const stream = new Readable({
    highWaterMark: limits.fileReadBytes,
    read: () => void pull(),
    destroy: (error, done) => {
      body.destroy();
      done(error);
    },
  });
  return addAbortSignal(signal, stream);
}
