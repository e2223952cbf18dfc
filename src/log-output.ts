import { constants, fstatSync, openSync, write as writeBytes } from 'node:fs';
import { limits } from './limits.ts';

/** Writes lines to a file descriptor, and never waits for it. */
export interface LogOutput {
  /** Queues a line. Drops it, and counts it, when the queue is full. */
  write(line: string): void;
  /** Calls `done` when every queued line is written, or after `limits.logFlushMs`, whichever is first. */
  flush(done: () => void): void;
  /** Returns how many lines were dropped since the start. */
  droppedLines(): number;
}

export interface LogOutputOptions {
  /** File descriptor to write to. Default: standard output. */
  fd?: number;
  maxBufferBytes?: number;
  /** Called with the number of lines dropped since the last call, when lines can be written again. */
  onResume?: (dropped: number) => void;
}

const STANDARD_OUTPUT = 1;

/**
 * Creates the output of the log. Standard output can fail or stand still: a disk is full, or the reader of a pipe is
 * stopped. The process must then go on serving, and must still end at SIGTERM. So writes are asynchronous, a failed
 * write is tried again later, and the queue is bounded.
 */
export function createLogOutput(options: LogOutputOptions = {}): LogOutput {
  const { maxBufferBytes = limits.maxLogBufferBytes, onResume } = options;
  const queue: Buffer[] = [];
  const waiting: (() => void)[] = [];
  let fd: number | undefined;
  let queuedBytes = 0;
  let isWriting = false;
  let timer: NodeJS.Timeout | undefined;
  let retryMs: number = limits.minLogRetryMs;
  let dropped = 0;
  let reported = 0;

  function start(): void {
    clearTimeout(timer);
    timer = undefined;
    if (isWriting || queue.length === 0) return;
    isWriting = true;
    fd ??= openWithoutBlocking(options.fd ?? STANDARD_OUTPUT);
    const chunk = takeChunk(queue);
    writeBytes(fd, chunk, 0, chunk.length, null, (error, written) => {
      isWriting = false;
      const rest = chunk.subarray(error === null ? written : 0);
      if (rest.length > 0) queue.unshift(rest);
      if (error === null) advance(written);
      else retryLater();
    });
  }

  function advance(written: number): void {
    queuedBytes -= written;
    retryMs = limits.minLogRetryMs;
    if (dropped > reported && queuedBytes <= maxBufferBytes / 2) reportDropped();
    if (queuedBytes === 0) for (const done of waiting.splice(0)) done();
    start();
  }

  function reportDropped(): void {
    const count = dropped - reported;
    reported = dropped;
    onResume?.(count);
  }

  /** Waits before the next attempt, whatever the fault: a full disk, a full pipe, a pipe without a reader. */
  function retryLater(): void {
    isWriting = true;
    const resume = (): void => {
      isWriting = false;
      start();
    };
    setTimeout(resume, retryMs).unref();
    retryMs = Math.min(retryMs * 2, limits.maxLogRetryMs);
  }

  return {
    write: (line) => {
      const bytes = Buffer.from(line);
      if (queuedBytes + bytes.length > maxBufferBytes) {
        dropped += 1;
        return;
      }
      queue.push(bytes);
      queuedBytes += bytes.length;
      if (!isWriting) timer ??= setTimeout(start, limits.logGatherMs);
    },
    flush: (done) => {
      if (queuedBytes === 0) {
        done();
        return;
      }
      const deadline = setTimeout(done, limits.logFlushMs);
      waiting.push(() => {
        clearTimeout(deadline);
        done();
      });
      start();
    },
    droppedLines: () => dropped,
  };
}

/** Joins the first lines of the queue to one write of at most `limits.maxLogWriteBytes`, or takes one longer line. */
function takeChunk(queue: Buffer[]): Buffer {
  let count = 0;
  let bytes = 0;
  for (const line of queue) {
    bytes += line.length;
    if (count > 0 && bytes > limits.maxLogWriteBytes) break;
    count += 1;
  }
  return Buffer.concat(queue.splice(0, count));
}

/**
 * Opens a pipe or terminal a second time without blocking, and returns the descriptor itself for anything else. Other
 * processes share the flags of an inherited descriptor and can make it block: a stopped reader would then occupy a
 * thread, and the process could not end. A second file description of a regular file would lack the shared position.
 */
function openWithoutBlocking(fd: number): number {
  try {
    const kind = fstatSync(fd);
    if (!kind.isFIFO() && !kind.isCharacterDevice()) return fd;
    return openSync(`/proc/self/fd/${fd}`, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  } catch {
    // Only Linux has this path, and a sandbox may forbid it.
    return fd;
  }
}
