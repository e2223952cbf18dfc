import { NodeError } from '../../http/client/node-error.ts';
import type { CommandContext } from '../command.ts';
import type { Meter } from '../file/file-fault.ts';
import { sizeText } from './text.ts';

const SHOW_EVERY_MS = 200;
const CLEAR_LINE = '\r\x1b[2K';

export type Progress = ReturnType<typeof createProgress>;

/** Shows progress as one line on a terminal. Elsewhere it writes nothing. */
export function createProgress(
  { isWatched, writeError }: Pick<CommandContext, 'isWatched' | 'writeError'>,
  nowMs: () => number = () => performance.now(),
) {
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
    count: (more: number): void => {
      bytes += more;
      if (isWatched && nowMs() - shownAt >= SHOW_EVERY_MS) show();
    },
    /** Names the current work and resets the count. `totalBytes` is the expected total, if known. */
    begin: (next: string, totalBytes?: number): void => {
      what = next;
      total = totalBytes;
      bytes = 0;
      startedAt = nowMs();
      if (isWatched) show();
    },
    end: (): void => {
      if (isWatched) writeError(CLEAR_LINE);
    },
  };
}

/** Yields the chunks unchanged and reports the size of each. */
export async function* metered(chunks: AsyncIterable<Uint8Array>, onBytes: Progress['count']) {
  for await (const chunk of chunks) {
    onBytes(chunk.length);
    yield chunk;
  }
}

/** Creates a meter that throws `interrupted` once `stop` aborts. */
export function createMeter(stop: AbortSignal, { count }: Progress): Meter {
  return (chunks) =>
    metered(chunks, (bytes) => {
      if (stop.aborted) throw new NodeError('interrupted', 'Interrupted.');
      count(bytes);
    });
}
