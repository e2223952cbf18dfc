import { type ErrorCode, LoomError, type LoomErrorOptions } from '../../errors.ts';

/**
 * Throws an error. `position` is the end of the text read so far, in the chunk. `faultOffset` is the place of the fault
 * in the input, if it differs from `position`.
 */
export type Fail = (code: ErrorCode, message: string, position: number, faultOffset?: number) => never;

/** Reports that the input ends inside a value that is valid so far. Its code is `invalid_json`. */
export class JsonTruncatedError extends LoomError {
  constructor(message: string, place: LoomErrorOptions) {
    super('invalid_json', message, place);
    this.name = 'JsonTruncatedError';
  }
}
