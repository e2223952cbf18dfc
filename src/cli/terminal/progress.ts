import { Transform } from 'node:stream';
import type { CommandContext } from '../command.ts';
import { sizeText } from './text.ts';

const SHOW_EVERY_MS = 200;
const CLEAR_LINE = '\r\x1b[2K';

/** One line on a terminal that says how far something is; nothing at all where nobody watches. */
export interface Progress {
  /** So many bytes more. */
  count(bytes: number): void;
  /** What is done now; the count begins anew, towards `totalBytes` if that is known. */
  begin(what: string, totalBytes?: number): void;
  /** Takes the line away. */
  end(): void;
}

export function createProgress(
  { isWatched, writeError }: Pick<CommandContext, 'isWatched' | 'writeError'>,
  nowMs: () => number = () => performance.now(),
): Progress {
  let what = '';
  let total: number | undefined;
  let bytes = 0;
  let startedAt = 0;
  let shownAt = 0;

  function show(): void {
    shownAt = nowMs();
    const seconds = (shownAt - startedAt) / 1000;
    const share =
      total === undefined || total === 0 ? '' : ` of ${sizeText(total)} (${Math.floor((bytes / total) * 100)} %)`;
    const speed = seconds > 0 ? `, ${sizeText(bytes / seconds)}/s` : '';
    writeError(`${CLEAR_LINE}${what}${bytes === 0 ? ' …' : `: ${sizeText(bytes)}${share}${speed}`}`);
  }

  return {
    count: (more) => {
      bytes += more;
      if (isWatched && nowMs() - shownAt >= SHOW_EVERY_MS) show();
    },
    begin: (next, totalBytes) => {
      what = next;
      total = totalBytes;
      bytes = 0;
      startedAt = nowMs();
      if (isWatched) show();
    },
    end: () => {
      if (isWatched) writeError(CLEAR_LINE);
    },
  };
}

/** Lets everything through and counts it. */
export function createMeter(onBytes: (bytes: number) => void): Transform {
  return new Transform({
    transform: (chunk: Buffer, _encoding, done) => {
      onBytes(chunk.length);
      done(null, chunk);
    },
  });
}
