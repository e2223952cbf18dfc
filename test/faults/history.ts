/** What happened in a round, for a person who looks for the reason of a fault. */
export interface History {
  /** Milliseconds since the round began. */
  now(): number;
  note(event: string): void;
  /** Notes an event that may repeat. Repetitions within half a second share one line. */
  count(event: string): void;
  /** Returns one line for each event, with the second at which it began. */
  lines(): string[];
}

const shareMs = 500;

export function createHistory(): History {
  const began = performance.now();
  const events: { at: number; event: string; times: number }[] = [];
  const recent = new Map<string, { at: number; event: string; times: number }>();
  const now = (): number => performance.now() - began;
  return {
    now,
    note: (event) => void events.push({ at: now(), event, times: 1 }),
    count: (event) => {
      const last = recent.get(event);
      if (last !== undefined && now() - last.at < shareMs) {
        last.times += 1;
        return;
      }
      const added = { at: now(), event, times: 1 };
      recent.set(event, added);
      events.push(added);
    },
    lines: () =>
      events.map(
        ({ at, event, times }) => `${(at / 1_000).toFixed(3).padStart(7)} ${event}${times > 1 ? ` ×${times}` : ''}`,
      ),
  };
}
