import type { z } from 'zod';
import { type ErrorCode, LoomError } from '../../errors.ts';
import { pointerToken, shortPointer } from '../../json/pointer.ts';

/** The first thing that zod found, as a LoomError that names the member. `pointer` is where the value stands. */
export function shapeFault(code: ErrorCode, error: z.ZodError, pointer: string): LoomError {
  const issue = error.issues[0];
  const unknown = issue?.code === 'unrecognized_keys' ? issue.keys.slice(0, 1) : [];
  const at = [...(issue?.path ?? []), ...unknown].map((step) => pointerToken(String(step))).join('');
  return new LoomError(code, `${at === '' ? 'The value' : `"${at.slice(1)}"`} ${expectationOf(issue)}.`, {
    pointer: shortPointer(`${pointer}${at}`),
  });
}

function expectationOf(issue: z.core.$ZodIssue | undefined): string {
  if (issue?.code === 'unrecognized_keys') return 'is not known here';
  if (issue?.code === 'invalid_type')
    return `must be ${issue.expected === 'int' ? 'a whole number' : `of type ${issue.expected}`}`;
  if (issue?.code === 'invalid_value')
    return `must be ${issue.values.map((value) => JSON.stringify(value)).join(' or ')}`;
  if (issue?.code === 'invalid_format') return 'does not have the form that it must have';
  if (issue?.code === 'too_small') return `must be at least ${issue.minimum}`;
  if (issue?.code === 'too_big') return `must be at most ${issue.maximum}`;
  return 'is not valid';
}
