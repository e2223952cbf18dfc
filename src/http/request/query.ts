import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { TimeRange } from '../../domain/audit.ts';
import { documentNameFault } from '../../domain/document.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { parseQuery, type QueryParameter } from './query-string.ts';

/** Throws `invalid_parameter` for an unsupported query parameter. The error never contains its value. */
export function assertKnownParameters(parameters: readonly QueryParameter[], known: readonly string[]): void {
  for (const { name, valid } of parameters) {
    if (known.includes(name)) {
      if (valid) continue;
      const fault = 'has a broken percent-encoding: each % needs two hex digits, and the decoded bytes must be UTF-8';
      throw invalid(name, fault);
    }
    // The error leaves out a name that could be a secret.
    const isHarmless = name.length < limits.minTokenCharacters && /^[a-z_]+$/.test(name);
    const found = isHarmless
      ? `The query parameter "${name}" is not supported.`
      : 'A query parameter is not supported.';
    const supported = known.length === 0 ? 'This route has none.' : `This route supports ${known.join(', ')}.`;
    throw new LoomError('invalid_parameter', `${found} ${supported}`);
  }
}

/** Returns a parameter's text, or `undefined` when it is absent. Throws when it is repeated. */
export function textParameter(request: FastifyRequest, name: string): string | undefined {
  const found = parseQuery(request.raw.url ?? '').filter((parameter) => parameter.name === name);
  if (found.length > 1) throw invalid(name, 'appears more than once; send it once');
  return found[0]?.value;
}

export function booleanParameter(request: FastifyRequest, name: string, absent: boolean): boolean {
  const text = textParameter(request, name);
  if (text === undefined) return absent;
  if (text === 'true' || text === '1') return true;
  if (text === 'false' || text === '0') return false;
  throw invalid(name, 'must be true or false');
}

export function integerParameter(
  request: FastifyRequest,
  name: string,
  { min, max = Number.MAX_SAFE_INTEGER }: { min: number; max?: number },
): number | undefined {
  const text = textParameter(request, name);
  if (text === undefined) return undefined;
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= min && value <= max) return value;
  throw invalid(name, `must be a whole number from ${min} to ${max}`);
}

/** Returns the maximum number of rows of a page. */
export function limitParameter(request: FastifyRequest): number {
  return integerParameter(request, 'limit', { min: 1, max: limits.maxPageEntries }) ?? limits.defaultPageEntries;
}

export function choiceParameter<const Choice extends string>(
  request: FastifyRequest,
  name: string,
  choices: readonly Choice[],
): Choice | undefined {
  const text = textParameter(request, name);
  if (text === undefined) return undefined;
  const choice = choices.find((one) => one === text);
  if (choice === undefined) throw invalid(name, `must be one of ${choices.join(', ')}`);
  return choice;
}

/** Reads `since` and `until`, and returns them in UTC. Digits of a second beyond microseconds are ignored. */
export function timeRangeParameters(request: FastifyRequest): TimeRange {
  return { since: timeParameter(request, 'since'), until: timeParameter(request, 'until') };
}

const timeForm = z.iso.datetime({ offset: true });

function timeParameter(request: FastifyRequest, name: string): string | undefined {
  const text = textParameter(request, name)?.toUpperCase();
  if (text === undefined) return undefined;
  const time = timeForm.safeParse(text).success ? Date.parse(text) : Number.NaN;
  const [, fraction = ''] = /\.(\d{1,6})/.exec(text) ?? [];
  if (time >= FIRST_TIME && time < END_OF_TIMES)
    return `${new Date(time).toISOString().slice(0, 19)}.${fraction.padEnd(6, '0')}Z`;
  if (!Number.isNaN(time)) throw invalid(name, 'must be a time in the years 0001 to 9999 of UTC');
  const example = '2026-11-25T22:57:28.451652Z or 2026-11-25T23:57:28%2B01:00';
  throw invalid(name, `must be a time of RFC 3339 with the offset from UTC, such as ${example}`);
}

/** Bound the years to four digits, from 1. */
const FIRST_TIME = Date.parse('0001-01-01T00:00:00Z');
const END_OF_TIMES = Date.parse('+010000-01-01T00:00:00Z');

/** Reads a parameter that is a document name. */
export function nameParameter(request: FastifyRequest, name: string): string | undefined {
  const text = textParameter(request, name);
  const fault = text === undefined ? undefined : documentNameFault(text);
  if (fault !== undefined) throw invalid(name, fault);
  return text;
}

/** Reads a prefix of document names. Unlike a name, a prefix may be empty, `.` or `..`. */
export function prefixParameter(request: FastifyRequest, name: string): string | undefined {
  const text = textParameter(request, name);
  if (text === undefined || text === '' || text === '.' || text === '..') return text;
  return nameParameter(request, name);
}

function invalid(name: string, fault: string): LoomError {
  return new LoomError('invalid_parameter', `The query parameter ${name} ${fault}.`);
}
