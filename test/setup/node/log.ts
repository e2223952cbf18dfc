import { createLogger, type Log } from '../../../src/log.ts';

/** A logger at `trace` whose lines are kept, to be looked through. */
export function captureLog(secrets: readonly string[] = []): { log: Log; lines: string[]; text(): string } {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  return { log: createLogger({ level: 'trace', stream, secrets }), lines, text: () => lines.join('') };
}
