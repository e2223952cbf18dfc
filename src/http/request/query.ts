import type { FastifyRequest } from 'fastify';
import { documentNameFault } from '../../domain/document.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';

/** Throws `invalid_parameter` when the query has a parameter that the route does not know. Values are never repeated. */
export function assertKnownParameters(query: unknown, known: readonly string[]): void {
  for (const name of Object.keys(parametersOf(query))) {
    if (known.includes(name)) continue;
    // What may be a secret in the wrong place is not echoed.
    const isHarmless = name.length < limits.minTokenCharacters && /^[a-z_]+$/.test(name);
    const subject = isHarmless
      ? `The query parameter "${name}" is not known here`
      : 'A query parameter is not known here';
    const allowed = known.length === 0 ? 'this route has none' : `this route knows ${known.join(', ')}`;
    throw new LoomError('invalid_parameter', `${subject}: ${allowed}.`);
  }
}

/** A parameter's text, or `undefined` when it is absent. Throws when it is given twice. */
export function textParameter(request: FastifyRequest, name: string): string | undefined {
  const value = parametersOf(request.query)[name];
  if (value === undefined || typeof value === 'string') return value;
  throw invalid(name, 'must be given once');
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
  { least, most }: { least: number; most: number },
): number | undefined {
  const text = textParameter(request, name);
  if (text === undefined) return undefined;
  const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw invalid(name, `must be a whole number from ${least} to ${most}`);
}

/** Rows of a page. */
export function limitParameter(request: FastifyRequest): number {
  return integerParameter(request, 'limit', { least: 1, most: limits.maxPageEntries }) ?? limits.defaultPageEntries;
}

export function choiceParameter<const Choice extends string>(
  request: FastifyRequest,
  name: string,
  choices: readonly Choice[],
): Choice | undefined {
  const text = textParameter(request, name);
  if (text === undefined) return undefined;
  const choice = choices.find((one) => one === text);
  if (choice !== undefined) return choice;
  throw invalid(name, `must be one of ${choices.join(', ')}`);
}

/** The name of a document. */
export function nameParameter(request: FastifyRequest, name: string): string | undefined {
  const text = textParameter(request, name);
  const fault = text === undefined ? undefined : documentNameFault(text);
  if (fault !== undefined) throw invalid(name, fault);
  return text;
}

/** The beginning of names: anything that a name may begin with, `.` and nothing among them. */
export function prefixParameter(request: FastifyRequest, name: string): string | undefined {
  const text = textParameter(request, name);
  if (text === undefined || text === '' || text === '.' || text === '..') return text;
  return nameParameter(request, name);
}

function parametersOf(query: unknown): Record<string, unknown> {
  return typeof query === 'object' && query !== null ? { ...query } : {};
}

function invalid(name: string, fault: string): LoomError {
  return new LoomError('invalid_parameter', `The query parameter ${name} ${fault}.`);
}
