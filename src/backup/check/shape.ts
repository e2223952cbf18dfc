import type { z } from 'zod';
import { type ErrorCode, LoomError, shortText } from '../../errors.ts';
import { pointerToken } from '../../json/pointer.ts';

/** Creates an error for the first issue that zod found. `pointer` leads to the checked value. */
export function toShapeError(code: ErrorCode, error: z.ZodError, pointer: string): LoomError {
  const issue = error.issues[0];
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
  const at = [...(issue?.path ?? []), ...unknown].map((step) => pointerToken(String(step))).join('');
  const member = at === '' ? 'The value' : JSON.stringify(shortText(at.slice(1)));
  return new LoomError(code, `${member} ${describeIssue(issue)}.`, { pointer: `${pointer}${at}` });
}

function describeIssue(issue: z.core.$ZodIssue | undefined): string {
  switch (issue?.code) {
    case 'unrecognized_keys':
      return 'is not a known member';
    case 'invalid_type':
      return `is missing or has the wrong type; expected ${typeNames[issue.expected] ?? issue.expected}`;
    case 'invalid_value':
      return `is not ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`;
    case 'invalid_format':
      return issue.format === 'uuid' ? 'is not a UUID' : `does not match ${issue.pattern ?? issue.format}`;
    case 'too_small':
      if (issue.origin === 'array') return `has too few elements; expected at least ${issue.minimum}`;
      return issue.origin === 'string'
        ? `is too short; expected at least ${issue.minimum} characters`
        : `is less than ${issue.minimum}, the minimum`;
    case 'too_big':
      if (issue.origin === 'array') return `has too many elements; expected at most ${issue.maximum}`;
      return issue.origin === 'string'
        ? `is too long; expected at most ${issue.maximum} characters`
        : `is greater than ${issue.maximum}, the maximum`;
    default:
      return 'is not valid';
  }
}

/** Maps zod's names of types to the words of an error. */
const typeNames: Record<string, string> = { int: 'whole number', boolean: 'true or false, without quotes' };
