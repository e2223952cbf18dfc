import type { FastifyRequest } from 'fastify';
import { z } from 'zod';
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

/**
 * Reads the query with a schema of the parameters below. Throws `invalid_parameter` when one is repeated or not valid.
 * Parameters that the schema does not have are ignored, because the plugins refuse them.
 */
export function readQuery<Schema extends z.ZodObject>(request: FastifyRequest, schema: Schema): z.output<Schema> {
  const values: Record<string, string> = {};
  for (const { name, value } of parseQuery(request.raw.url ?? '')) {
    if (!Object.hasOwn(schema.shape, name)) continue;
    if (name in values) throw invalid(name, 'appears more than once; send it once');
    values[name] = value;
  }
  const parsed = schema.safeParse(values);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0] ?? { path: [], message: 'is not valid' };
  throw invalid(path.join('.'), message);
}

// A schema converts the text of a parameter, and its message is the predicate of an error. The OpenAPI document shows
// the converted type.

/** Converts a whole number in plain decimal. */
export function integerParameter({ min, max = Number.MAX_SAFE_INTEGER }: { min: number; max?: number }) {
  const error = `must be a whole number from ${min} to ${max}`;
  const toNumber = (text: unknown): number => (/^\d{1,16}$/.test(String(text)) ? Number(text) : Number.NaN);
  return z.preprocess(toNumber, z.int({ error }).min(min, { error }).max(max, { error }));
}

const truthValues: Record<string, boolean> = { true: true, 1: true, false: false, 0: false };

export const booleanParameter = z.preprocess(
  (text) => truthValues[String(text)],
  z.boolean({ error: 'must be true or false' }),
);

export function choiceParameter<const Choice extends string>(choices: readonly Choice[]) {
  return z.enum(choices, { error: `must be one of ${choices.join(', ')}` });
}

/** Converts the maximum number of rows of a page. */
export const limitParameter = integerParameter({ min: 1, max: limits.maxPageEntries })
  .default(limits.defaultPageEntries)
  .describe('The maximum number of rows of the page');

/** Converts a seq that bounds a page of the audit trail. */
export const seqParameter = integerParameter({ min: 0 }).optional();

const timeForm = z.iso.datetime({ offset: true });

/** Converts a time to UTC. Digits of a second beyond microseconds are ignored. */
const timeParameter = z.preprocess(
  (text) => toUtc(String(text).toUpperCase()),
  z
    .string({
      error:
        'must be a time of RFC 3339 with the offset from UTC, in the years 0001 to 9999 of UTC, such as ' +
        '2026-11-25T22:57:28.451652Z or 2026-11-25T23:57:28%2B01:00',
    })
    .meta({ format: 'date-time' }),
);

/** Selects by time. */
export const timeRangeParameters = {
  since: timeParameter
    .optional()
    .describe('The first time, inclusive')
    .meta({ examples: ['2026-11-25T22:57:28.451652Z'] }),
  until: timeParameter
    .optional()
    .describe('The last time, exclusive')
    .meta({ examples: ['2100-01-01T00:00:00+01:00'] }),
};

function toUtc(text: string): string | undefined {
  const time = timeForm.safeParse(text).success ? Date.parse(text) : Number.NaN;
  const [, fraction = ''] = /\.(\d{1,6})/.exec(text) ?? [];
  if (!(time >= FIRST_TIME && time < END_OF_TIMES)) return undefined;
  return `${new Date(time).toISOString().slice(0, 19)}.${fraction.padEnd(6, '0')}Z`;
}

/** Bound the years to four digits, from 1. */
const FIRST_TIME = Date.parse('0001-01-01T00:00:00Z');
const END_OF_TIMES = Date.parse('+010000-01-01T00:00:00Z');

/** Accepts a prefix of document names. Unlike a name, a prefix may be empty, `.` or `..`. */
export const prefixParameter = z.string().check(({ value, issues }) => {
  const message = ['', '.', '..'].includes(value) ? undefined : documentNameFault(value);
  if (message !== undefined) issues.push({ code: 'custom', input: value, message });
});

function invalid(name: string, fault: string): LoomError {
  return new LoomError('invalid_parameter', `The query parameter ${name} ${fault}.`);
}
