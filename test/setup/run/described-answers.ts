import { afterAll, afterEach } from 'vitest';
import { checkAnswer, takeViolations } from '../answers/checks.ts';
import { recordAnswers } from '../answers/recorder.ts';

/** A longer stream is checked as far as this. */
const MAX_BYTES = 2 ** 20;

recordAnswers(checkAnswer, MAX_BYTES);

async function failOnViolation(): Promise<void> {
  const { violations } = await takeViolations();
  if (violations.length > 0) throw new Error(`docs/openapi.json does not describe:\n${violations.join('\n')}`);
}

afterEach(failOnViolation);
// Some nodes end after the last test. This hook runs after those of the file.
afterAll(failOnViolation);
