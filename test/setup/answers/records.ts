import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { inject } from 'vitest';
import { isTestWorker } from '../depth.ts';
import { checkAnswer } from './checks.ts';
import type { SentAnswer } from './recorder.ts';

/** The answers of a node in a process of its own. */
export interface AnswerRecord {
  /** Option of `node` that starts the recording. */
  option: string;
  /** Checks all answers, once the process has ended. A violation fails the test, or its file. */
  check(): void;
}

/** Creates a record for a process that is about to start. Outside a test run, nothing is recorded. */
export function createAnswerRecord(): AnswerRecord | undefined {
  const recorder = isTestWorker ? inject('answerRecorder') : undefined;
  if (recorder === undefined) return undefined;
  const directory = mkdtempSync(join(tmpdir(), 'loom-test-answers-'));
  const file = join(directory, 'answers');
  const url = pathToFileURL(recorder);
  url.searchParams.set('file', file);
  return {
    option: `--import=${url.href}`,
    check: () => {
      const lines = existsSync(file) ? readFileSync(file, 'utf8').split('\n') : [];
      // A process that is killed may leave half a line.
      for (const line of lines.slice(0, -1)) checkAnswer(toAnswer(line));
      rmSync(directory, { recursive: true, force: true });
    },
  };
}

function toAnswer(line: string): SentAnswer {
  const { body, ...answer } = JSON.parse(line) as Omit<SentAnswer, 'body'> & { body: string };
  return { ...answer, body: Buffer.from(body, 'base64') };
}
