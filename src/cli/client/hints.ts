import { isLoomError } from '../../errors.ts';
import { NodeError } from '../../http/client/node-error.ts';

/** Awaits `work`. If it rejects with a code that has a hint, adds the hint to the error's message. */
export async function withHint<T>(hints: Record<string, string>, work: Promise<T>): Promise<T> {
  return await work.catch((error: unknown) => {
    const isKnown = (error instanceof NodeError || isLoomError(error)) && Object.hasOwn(hints, error.code);
    if (isKnown) error.message += ` ${hints[error.code]}`;
    throw error;
  });
}
