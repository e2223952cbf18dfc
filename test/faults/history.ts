/** What happened in a round, for a person who looks for the reason of a fault. */
export interface History {
  /** Milliseconds since the round began. */
  now(): number;
  note(event: string): void;
  /** Notes an event that may repeat. Repetitions without a pause share one line. */
  count(event: string): void;
  /** Returns one line for each event, with the second at which it began. */
  lines(): string[];
}

interface Line {
  atMs: number;
  untilMs: number;
  event: string;
  times: number;
}

/** The pause after which a repetition gets a line of its own. */
const PAUSE_MS = 1_000;

export function createHistory(): History {
  const began = performance.now();
  const all: Line[] = [];
  const counted = new Map<string, Line>();
  const now = (): number => performance.now() - began;
  const add = (event: string): Line => {
    const line = { atMs: now(), untilMs: now(), event, times: 1 };
    all.push(line);
    return line;
  };
  return {
    now,
    note: (event) => void add(event),
    count: (event) => {
      const known = counted.get(event);
      if (known === undefined || now() - known.untilMs > PAUSE_MS) {
        counted.set(event, add(event));
        return;
      }
      known.times += 1;
      known.untilMs = now();
    },
    lines: () =>
      all.map(({ atMs, untilMs, event, times }) => {
        const repeated = times > 1 ? ` ×${times} until ${(untilMs / 1_000).toFixed(3)}` : '';
        return `${(atMs / 1_000).toFixed(3).padStart(7)} ${event}${repeated}`;
      }),
  };
}
