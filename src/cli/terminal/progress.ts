import { NodeError } from '../../http/client/node-error.ts';
import type { CommandContext } from '../command.ts';
import type { Meter } from '../file/file-fault.ts';
import { CLEAR_LINE } from './door.ts';
import { sizeText } from './text.ts';

const SHOW_EVERY_MS = 200;
/** Shows that the command is alive while no bytes arrive, for example while a node checks a backup. */
const TICK_MS = 1_000;

/** Bounds the line: the terminal would break a longer one into two, and the next one would clear only the second. */
const MAX_LINE_CHARACTERS = 79;

export type Progress = ReturnType<typeof createProgress>;

/** Shows progress as one line on a terminal, with the time since it began. Elsewhere it writes nothing. */
export function createProgress(
  { isWatched, writeError }: Pick<CommandContext, 'isWatched' | 'writeError'>,
  nowMs: () => number = () => performance.now(),
) {
  let what = '';
  let total: number | undefined;
  let bytes = 0;
  let note = '';
  let startedAt = 0;
  let shownAt = 0;
  let tick: NodeJS.Timeout | undefined;

  function show(): void {
    shownAt = nowMs();
    const seconds = (shownAt - startedAt) / 1000;
    const elapsed = seconds < 2 ? '' : `, ${Math.floor(seconds)} s`;
    // While bytes pass, they say enough, and the note would not fit on the line.
    const noted = note === '' || bytes > 0 ? '' : ` (${note})`;
    const line = `${what}${bytes === 0 ? ' …' : `: ${amountText(seconds)}`}${elapsed}${noted}`;
    writeError(`${CLEAR_LINE}${line.slice(0, MAX_LINE_CHARACTERS)}`);
  }

  function amountText(seconds: number): string {
    // A file may be read more than once.
    const isShare = total !== undefined && total > 0 && bytes <= total;
    const share = isShare ? ` of ${sizeText(total ?? 0)} (${Math.floor((bytes / (total ?? 1)) * 100)} %)` : '';
    const speed = seconds > 0 ? `, ${sizeText(bytes / seconds)}/s` : '';
    return `${sizeText(bytes)}${share}${speed}`;
  }

  return {
    isWatched,
    count: (more: number): void => {
      bytes += more;
      if (isWatched && nowMs() - shownAt >= SHOW_EVERY_MS) show();
    },
    /** Names the current work and resets the count. `totalBytes` is the expected total, if known. */
    begin: (next: string, totalBytes?: number): void => {
      what = next;
      total = totalBytes;
      bytes = 0;
      note = '';
      startedAt = nowMs();
      if (!isWatched) return;
      show();
      tick ??= setInterval(show, TICK_MS).unref();
    },
    /** Adds what is known about the current work, in parentheses. */
    note: (text: string): void => {
      note = text;
      if (isWatched && tick !== undefined) show();
    },
    end: (): void => {
      clearInterval(tick);
      tick = undefined;
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
