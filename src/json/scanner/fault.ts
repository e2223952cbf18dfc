import { type ErrorCode, LoomError, type LoomErrorOptions } from '../../errors.ts';

/**
 * Throws an error. `position` is the place in the chunk up to which the text has been read. `faultOffset` is the place
 * in the input that the error names, if it is not that of `position`.
 */
export type Fail = (code: ErrorCode, message: string, position: number, faultOffset?: number) => never;

/** Thrown when the input ends inside a value that was valid so far. Its code is `invalid_json`. */
export class JsonTruncatedError extends LoomError {
  constructor(message: string, place: LoomErrorOptions) {
    super('invalid_json', message, place);
    this.name = 'JsonTruncatedError';
  }
}
