import { z } from 'zod';
import { stateKeyFault } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';

/** Accepts the name of a scratch state in a query. `assertScratchKey` checks it. */
export const scratchParameter = z
  .string()
  .optional()
  .meta({ examples: ['trial'] });

/** Throws `scratch_not_found` for a key that no scratch state can have, not even one of an older version. */
export function assertScratchKey(key: string): void {
  const fault = stateKeyFault(key);
  if (fault !== undefined) throw new LoomError('scratch_not_found', `No such scratch state: the key ${fault}.`);
}
