import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import { parseSchedule, readSchedule } from '../../../src/backup/stored/schedule.ts';
import { rounds } from '../../setup/depth.ts';

const at = (text: string): Date => new Date(text);
const slots = (expression: string, now: string) => {
  const schedule = parseSchedule(expression);
  return [schedule.lastSlot(at(now))?.toISOString(), schedule.nextSlot(at(now))?.toISOString()];
};

describe('a schedule', () => {
  it.each([
    ['0 * * * *', '2026-11-26T16:59:59.999Z', '2026-11-26T16:00:00.000Z', '2026-11-26T17:00:00.000Z'],
    ['0 * * * *', '2026-11-26T17:00:00.000Z', '2026-11-26T17:00:00.000Z', '2026-11-26T18:00:00.000Z'],
    ['0 * * * *', '2026-11-26T17:00:00.001Z', '2026-11-26T17:00:00.000Z', '2026-11-26T18:00:00.000Z'],
    ['* * * * * *', '2026-11-26T17:00:00.500Z', '2026-11-26T17:00:00.000Z', '2026-11-26T17:00:01.000Z'],
    ['*/15 30 2 * * SUN', '2026-03-29T02:30:59.000Z', '2026-03-29T02:30:45.000Z', '2026-04-05T02:30:00.000Z'],
    // In the time zones of Europe and America, these hours occur twice or never.
    ['30 2 * * *', '2026-03-29T02:30:00.000Z', '2026-03-29T02:30:00.000Z', '2026-03-30T02:30:00.000Z'],
    ['30 1 * * *', '2026-10-25T01:45:00.000Z', '2026-10-25T01:30:00.000Z', '2026-10-26T01:30:00.000Z'],
    ['0 0 29 2 *', '2026-01-01T00:00:00.000Z', '2024-02-29T00:00:00.000Z', '2028-02-29T00:00:00.000Z'],
    ['0 0 L * *', '2028-02-29T12:00:00.000Z', '2028-02-29T00:00:00.000Z', '2028-03-31T00:00:00.000Z'],
    ['59 23 31 DEC *', '2026-12-31T23:59:00.000Z', '2026-12-31T23:59:00.000Z', '2027-12-31T23:59:00.000Z'],
    ['  0   3 * *  7 ', '2026-11-26T00:00:00.000Z', '2026-11-22T03:00:00.000Z', '2026-11-29T03:00:00.000Z'],
  ])('%s at %s', (expression, now, last, next) => {
    expect(slots(expression, now)).toEqual([last, next]);
  });

  it.each([
    ['60 * * * *', /^has an invalid minute \(field 1\): use 0 to 59/],
    ['0 24 * * *', /^has an invalid hour \(field 2\): use 0 to 23/],
    ['0 0 0 * *', /^has an invalid day of the month \(field 3\): use 1 to 31/],
    ['0 0 32 * *', /day of the month \(field 3\)/],
    ['0 0 * 13 *', /month \(field 4\)/],
    ['0 0 * * 8', /day of the week \(field 5\)/],
    ['0 0 * * MONDAY', /day of the week \(field 5\)/],
    ['60 0 0 * * *', /second \(field 1\)/],
    ['0 60 0 * * *', /minute \(field 2\)/],
    ['? * * * *', /minute \(field 1\)/],
    ['*/0 * * * *', /minute \(field 1\)/],
    ['5-1 * * * *', /minute \(field 1\)/],
    ['1,,2 * * * *', /minute \(field 1\)/],
    ['０ * * * *', /minute \(field 1\)/],
    ['2026-01-01T00:00:00Z * * * *', /minute \(field 1\)/],
    ['', /^must be a cron expression of 5 or 6 fields/],
    ['@hourly', /^must be a cron expression/],
    ['* * * *', /^must be a cron expression/],
    ['* * * * * * 2026', /^must be a cron expression/],
    ['0 0 30 2 *', /^never occurs/],
    ['0 0 31 4,6,9,11 *', /^never occurs/],
  ])('%j is refused', (expression, fault) => {
    expect(readSchedule(expression)).toEqual({ fault: expect.stringMatching(fault) });
    expect(() => parseSchedule(expression)).toThrow();
  });
});

const list = (min: number, max: number) =>
  fc.oneof(
    fc.constant('*'),
    fc.uniqueArray(fc.integer({ min, max }), { minLength: 1, maxLength: 4 }).map((values) => values.join(',')),
    fc.integer({ min: 2, max: Math.min(9, max) }).map((step) => `*/${step}`),
  );

test('both slots are those that a search by minutes finds', () => {
  const expressions = fc.tuple(list(0, 59), list(0, 23), list(1, 28), fc.constant('*'), fc.constant('*'));
  const times = fc.integer({ min: Date.UTC(1990, 0, 1), max: Date.UTC(2090, 0, 1) });
  fc.assert(
    fc.property(expressions, times, (fields, time) => {
      const schedule = parseSchedule(fields.join(' '));
      const now = new Date(time);
      const matches = (ms: number): boolean => {
        const date = new Date(ms);
        const parts = [date.getUTCMinutes(), date.getUTCHours(), date.getUTCDate()];
        return parts.every((part, index) => includes(fields[index] ?? '', part, index === 2 ? 1 : 0));
      };
      const search = (from: number, step: number): number => {
        for (let ms = from; ; ms += step) if (matches(ms)) return ms;
      };
      const minute = Math.floor(time / 60_000) * 60_000;
      expect(schedule.lastSlot(now)?.getTime()).toBe(search(minute, -60_000));
      expect(schedule.nextSlot(now)?.getTime()).toBe(search(minute + 60_000, 60_000));
    }),
    { numRuns: rounds({ quick: 10, full: 500 }) },
  );
});

function includes(field: string, value: number, min: number): boolean {
  if (field === '*') return true;
  const step = /^\*\/(\d)$/.exec(field)?.[1];
  return step === undefined ? field.split(',').includes(String(value)) : (value - min) % Number(step) === 0;
}

test('between two neighbouring slots there is none', () => {
  const expressions = fc.tuple(list(0, 59), list(0, 59), list(0, 23), list(1, 28), list(1, 12), list(0, 6));
  const times = fc.integer({ min: Date.UTC(2000, 0, 1), max: Date.UTC(2080, 0, 1) });
  fc.assert(
    fc.property(expressions, times, (fields, time) => {
      const schedule = parseSchedule(fields.join(' '));
      const now = new Date(time);
      const [last, next] = [schedule.lastSlot(now), schedule.nextSlot(now)];
      if (last === undefined || next === undefined) throw new Error('no slot');
      expect(last <= now && now < next).toBe(true);
      expect(schedule.nextSlot(last)).toEqual(next);
      expect(schedule.lastSlot(last)).toEqual(last);
      expect(schedule.lastSlot(next)).toEqual(next);
      expect(schedule.lastSlot(new Date(next.getTime() - 1))).toEqual(last);
    }),
    { numRuns: rounds({ quick: 50, full: 5_000 }) },
  );
});
