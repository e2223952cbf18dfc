import { createLogger, type Log } from '../../../src/log.ts';

/** Returns a logger at `trace` and the lines that it has written. */
export function captureLog(secrets: readonly string[] = []): { log: Log; lines: string[]; text(): string } {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  return { log: createLogger({ level: 'trace', stream, secrets }), lines, text: () => lines.join('') };
}
