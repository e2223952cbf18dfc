import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { LoomError } from '../../errors.ts';

/**
 * Streams the undecoded bytes of a request, bounded in size and in idle time. Unlike the request itself it can be
 * destroyed without destroying the socket, which stays open for the answer.
 */
export class RawBody extends Readable {
  private readonly source: IncomingMessage;
  private readonly timer: NodeJS.Timeout;
  received = 0;

  constructor(source: IncomingMessage, { idleMs, maxBytes }: { idleMs: number; maxBytes: number }) {
    super();
    this.source = source;
    this.timer = setTimeout(() => {
      // A paused source means that the reader is slow, for example a database under load. The client is not idle.
      if (source.isPaused()) this.timer.refresh();
      else this.destroy(new LoomError('request_timeout', `No byte of the body arrived for ${idleMs} ms.`));
    }, idleMs);
    this.onData = (chunk) => {
      this.timer.refresh();
      this.received += chunk.length;
      if (this.received > maxBytes) this.destroy(bodyTooLarge(maxBytes));
      else if (!this.push(chunk)) source.pause();
    };
    source.on('data', this.onData);
    source.on('end', this.onEnd);
    source.on('error', this.onBreak);
    source.on('close', this.onBreak);
    source.pause();
    if (source.destroyed) this.onBreak();
  }

  override _read(): void {
    this.timer.refresh();
    this.source.resume();
  }

  /** Leaves the `error` listener in place: a socket that breaks later must not raise an unhandled error. */
  override _destroy(error: Error | null, done: (error?: Error | null) => void): void {
    clearTimeout(this.timer);
    this.source.off('data', this.onData);
    this.source.off('end', this.onEnd);
    this.source.off('close', this.onBreak);
    this.source.pause();
    done(error);
  }

  private readonly onData: (chunk: Buffer) => void;

  private readonly onEnd = (): void => {
    clearTimeout(this.timer);
    this.push(null);
  };

  private readonly onBreak = (): void => {
    if (this.source.readableEnded) return;
    this.destroy(new LoomError('malformed_request', 'The connection broke before the end of the body.'));
  };
}

export function bodyTooLarge(maxBytes: number): LoomError {
  return new LoomError('body_too_large', `The body has more than ${maxBytes} bytes.`);
}
