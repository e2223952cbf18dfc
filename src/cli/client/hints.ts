import { isLoomError } from '../../errors.ts';
import { NodeError } from '../../http/client/node-error.ts';

/** Adds a hint to the message of the error that `work` rejects with, if there is one for its code. */
export async function withHint<T>(hints: Record<string, string>, work: Promise<T>): Promise<T> {
  return await work.catch((error: unknown) => {
    const isKnown = (error instanceof NodeError || isLoomError(error)) && Object.hasOwn(hints, error.code);
    if (isKnown) error.message += ` ${hints[error.code]}`;
    throw error;
  });
}
