import { CONFIG_EXIT_CODE, ConfigError } from '../config/config.ts';
import { type ErrorPlace, isLoomError, type LoomError } from '../errors.ts';
import { NodeError } from '../http/client/node-error.ts';
import { oneLine, printable } from '../json/printable.ts';
import { asFileFault, FileFault, withFileHint } from './file/file-fault.ts';
import { UsageError } from './terminal/arguments.ts';
import { placeText } from './terminal/text.ts';

/** sysexits.h EX_USAGE: the command line is wrong. */
export const USAGE_EXIT_CODE = 64;

type FailurePlace = ErrorPlace & { file?: string; step?: string };

/** Returns a failure as `--json` writes it. `request_id` is null if no node answered. */
export function failureMembers(code: string, detail: string, place: FailurePlace = {}, requestId?: string) {
  return { ok: false, code, detail, place, request_id: requestId ?? null };
}

export class NotConfirmed extends Error {
  override message = 'Nothing was changed.';
}

/** Reports a fault of a backup file as the result of `verify` or `inspect`. The text begins with `verdict`. */
class BackupFault extends Error {
  readonly fault: LoomError;
  readonly file: string;
  readonly verdict: string;

  constructor(fault: LoomError, file: string, verdict: string) {
    super(fault.message, { cause: fault });
    this.fault = fault;
    this.file = file;
    this.verdict = verdict;
  }
}

/** Runs a check of a backup file, and rethrows its LoomError as a BackupFault of that file. */
export async function judged<T>(file: string, verdict: string, check: () => Promise<T>): Promise<T> {
  try {
    return await withFileHint(file, check());
  } catch (error) {
    throw isLoomError(error) ? new BackupFault(error, file, verdict) : error;
  }
}

/** Returns a warning of the command `name` for standard error, in the form of its errors. The command goes on. */
export function warningText(name: string, code: string, place: ErrorPlace, sentences: string): string {
  return `${name} warning: ${code}${placeText(place)}\n${oneLine(sentences)}\n`;
}

/** Describes an error of the command `name` for people and for programs. */
export function describeFailure(name: string, error: unknown) {
  const fault = asFileFault(error);
  const message = fault instanceof Error ? fault.message : String(fault);
  if (fault instanceof UsageError) {
    const detail = `${name}: ${message}`;
    const text = `${detail}\nSee node dist/main.js ${name} --help.`;
    return failure(text, failureMembers('usage', detail), { exitCode: USAGE_EXIT_CODE });
  }
  if (fault instanceof ConfigError) {
    return failure(message, failureMembers('configuration_invalid', message), { exitCode: CONFIG_EXIT_CODE });
  }
  if (fault instanceof NotConfirmed) return failure(message, failureMembers('not_confirmed', message));
  if (fault instanceof BackupFault) {
    const { code, place } = fault.fault;
    const text = `${fault.verdict}: ${code}${placeText(place)}\n${oneLine(message)}`;
    return failure(text, failureMembers(code, message, { file: fault.file, ...place }), { isAnswer: true });
  }
  if (fault instanceof NodeError || isLoomError(fault)) {
    const requestId = fault instanceof NodeError ? fault.requestId : undefined;
    const more = requestId === undefined ? [] : [`request ${oneLine(requestId)}`];
    const text = `${name} failed: ${fault.code}${placeText(fault.place, more)}\n${oneLine(message)}`;
    return failure(text, failureMembers(fault.code, message, fault.place, requestId));
  }
  const text = `${name} failed: ${printable(message)}`;
  if (!(fault instanceof FileFault)) return failure(text, failureMembers('internal', message));
  return failure(text, failureMembers('file_unusable', fault.detail, { file: fault.path }));
}

/** Returns a failure. `isAnswer` marks a verdict on a file: it is the command's result, for standard output. */
function failure(text: string, json: object, { exitCode = 1, isAnswer = false } = {}) {
  return { exitCode, text: `${text}\n`, isAnswer, json };
}
