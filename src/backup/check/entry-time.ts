import { BYTE } from '../../json/bytes.ts';

/** The part of a time up to its minute: `2026-11-26T10:30`. */
const MINUTE_LENGTH = 16;
/** Positions of the seconds and of the microseconds. */
const SECOND = 17;
const MICROSECOND = 20;
const MICROSECOND_DIGITS = 6;
const MICROSECONDS_PER_SECOND = 1_000_000;

/**
 * Creates a reader of times in the form `entryForms.recorded_at`. `start` is the position of the first digit. It
 * returns microseconds since 1970: a bigint if a number cannot be exact. It parses a date only if the minute differs
 * from that of the entry before, because most entries follow closely.
 */
export function createTimeReader(): (text: Uint8Array, start: number) => number | bigint {
  const minute = Buffer.alloc(MINUTE_LENGTH);
  let minuteSeconds = 0;

  return (text, start) => {
    if (!isSame(minute, text, start)) {
      minute.set(text.subarray(start, start + MINUTE_LENGTH));
      minuteSeconds = Date.parse(`${minute.toString('latin1')}Z`) / 1_000;
    }
    const seconds = minuteSeconds + digits(text, start + SECOND, 2);
    const rest = digits(text, start + MICROSECOND, MICROSECOND_DIGITS);
    const microseconds = seconds * MICROSECONDS_PER_SECOND + rest;
    if (Number.isSafeInteger(microseconds)) return microseconds;
    return BigInt(seconds) * BigInt(MICROSECONDS_PER_SECOND) + BigInt(rest);
  };
}

function isSame(minute: Uint8Array, text: Uint8Array, start: number): boolean {
  for (let index = 0; index < MINUTE_LENGTH; index += 1) if (minute[index] !== text[start + index]) return false;
  return true;
}

function digits(text: Uint8Array, start: number, count: number): number {
  let value = 0;
  for (let index = start; index < start + count; index += 1) value = value * 10 + (text[index] as number) - BYTE.zero;
  return value;
}
