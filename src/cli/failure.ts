import { CONFIG_EXIT_CODE, ConfigError } from '../config/config.ts';
import { type ErrorPlace, isLoomError, type LoomError } from '../errors.ts';
import { NodeError } from '../http/client/node-error.ts';
import { asFileFault, FileFault } from './file/file-fault.ts';
import { UsageError } from './terminal/arguments.ts';
import { placeText, printable } from './terminal/text.ts';

/** sysexits.h EX_USAGE: the command line is wrong. */
export const USAGE_EXIT_CODE = 64;

/** A failure as `--json` writes it. */
export interface FailureMembers {
  ok: false;
  code: string;
  detail: string;
  place: ErrorPlace & { file?: string; step?: string };
  /** Of the answer; null when no node answered. */
  request_id: string | null;
}

export interface Failure {
  exitCode: number;
  text: string;
  /** Whether `text` is what the command was asked for, a verdict on a file, and so belongs to standard output. */
  isAnswer: boolean;
  json: FailureMembers;
}

/** The operator did not confirm. */
export class NotConfirmed extends Error {
  constructor() {
    super('Nothing was changed.');
  }
}

/** What is wrong with a backup file, as the answer of `verify` or `inspect`. `verdict` begins its text. */
export class BackupFault extends Error {
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
    return await check();
  } catch (error) {
    throw isLoomError(error) ? new BackupFault(error, file, verdict) : error;
  }
}

/** Describes an error of the command `name` for people and for programs. */
export function describeFailure(name: string, error: unknown): Failure {
  const fault = asFileFault(error);
  if (fault instanceof UsageError) {
    const text = `${name}: ${fault.message}\nSee node dist/main.js ${name} --help.`;
    return { ...createFailure('usage', `${name}: ${fault.message}`, {}, text), exitCode: USAGE_EXIT_CODE };
  }
  if (fault instanceof ConfigError) {
    return { ...createFailure('configuration_invalid', fault.message), exitCode: CONFIG_EXIT_CODE };
  }
  if (fault instanceof NotConfirmed) return createFailure('not_confirmed', fault.message);
  if (fault instanceof FileFault) {
    return createFailure(
      'file_unusable',
      fault.detail,
      { file: fault.path },
      `${name} failed: ${printable(fault.message)}`,
    );
  }
  if (fault instanceof BackupFault) {
    const { code, message, place } = fault.fault;
    const text = `${fault.verdict}: ${code}${placeText(place)}\n${printable(message)}`;
    return { ...createFailure(code, message, { file: fault.file, ...place }, text), isAnswer: true };
  }
  if (fault instanceof NodeError || isLoomError(fault)) {
    const { code, message, place } = fault;
    const requestId = fault instanceof NodeError ? fault.requestId : undefined;
    const more = requestId === undefined ? [] : [`request ${printable(requestId)}`];
    const text = `${name} failed: ${code}${placeText(place, more)}\n${printable(message)}`;
    return createFailure(code, message, place, text, requestId);
  }
  const message = fault instanceof Error ? fault.message : String(fault);
  return createFailure('internal', message, {}, `${name} failed: ${printable(message)}`);
}

function createFailure(
  code: string,
  detail: string,
  place: FailureMembers['place'] = {},
  text = detail,
  requestId: string | null = null,
): Failure {
  const json: FailureMembers = { ok: false, code, detail, place, request_id: requestId };
  return { exitCode: 1, text: `${text}\n`, isAnswer: false, json };
}
