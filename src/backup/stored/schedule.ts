import { Cron } from 'croner';

/** Gives the times of a cron expression in UTC: its slots. Each is a whole second. */
export interface Schedule {
  /** Returns the last time that is not after `now`; undefined if there is none. */
  lastSlot(now: Date): Date | undefined;
  /** Returns the first time after `now`; undefined if there is none. */
  nextSlot(now: Date): Date | undefined;
}

/**
 * Reads a cron expression of five fields, or of six with the seconds first. A fault is a predicate for the name of the
 * setting. It names the field, and never repeats a value.
 */
export function readSchedule(text: string): { schedule: Schedule } | { fault: string } {
  const fields = text.trim().split(/\s+/);
  const names = fieldsByCount.get(fields.length);
  if (names === undefined) return { fault: 'must be a cron expression of 5 or 6 fields, such as 0 * * * *' };
  const wrong = fields.findIndex((field, index) => !isField(field, index, fields.length));
  if (wrong >= 0) {
    const { name, values } = fieldForms[names[wrong] ?? 'minute'];
    return { fault: `has an invalid ${name} (field ${wrong + 1}): use ${values}` };
  }
  const cron = toCron(fields.join(' '));
  // Any date will do: an expression has no years, and the calendar repeats.
  if (cron.nextRun(new Date(0)) === null) return { fault: 'never occurs: no month has such a day' };
  return {
    schedule: {
      lastSlot: (now) => cron.previousRuns(1, new Date(now.getTime() + 1))[0],
      nextSlot: (now) => cron.nextRun(now) ?? undefined,
    },
  };
}

/** Reads a cron expression that was checked before. */
export function parseSchedule(text: string): Schedule {
  const read = readSchedule(text);
  if ('fault' in read) throw new Error(`the schedule ${read.fault}`);
  return read.schedule;
}

const fieldForms = {
  second: { name: 'second', values: '0 to 59, lists, ranges, * or steps such as */15' },
  minute: { name: 'minute', values: '0 to 59, lists, ranges, * or steps such as */15' },
  hour: { name: 'hour', values: '0 to 23, lists, ranges, * or steps such as */6' },
  day: { name: 'day of the month', values: '1 to 31, L for the last one, lists, ranges, * or steps such as */2' },
  month: { name: 'month', values: '1 to 12 or JAN to DEC, lists, ranges, * or steps such as */3' },
  weekday: { name: 'day of the week', values: '0 to 7 or SUN to SAT, lists, ranges, * or steps such as */2' },
} as const;

const fiveFields = ['minute', 'hour', 'day', 'month', 'weekday'] as const;

const fieldsByCount = new Map<number, readonly (keyof typeof fieldForms)[]>([
  [5, fiveFields],
  [6, ['second', ...fiveFields]],
]);

/** Returns whether a field is valid among others that are. A question mark would be the time at which a node starts. */
function isField(field: string, index: number, count: number): boolean {
  if (!/^[\w*/,#+-]+$/.test(field)) return false;
  try {
    toCron(Array.from({ length: count }, (_, other) => (other === index ? field : '*')).join(' '));
    return true;
  } catch {
    return false;
  }
}

/** Creates a paused job without a function: it only computes times. */
function toCron(expression: string): Cron {
  return new Cron(expression, { paused: true, utcOffset: 0, mode: '5-or-6-parts' });
}
