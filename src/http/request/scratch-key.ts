import { stateKeyFault } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';

/** Throws `scratch_not_found` for a key that no scratch state can have, not even one of an older version. */
export function assertScratchKey(key: string): void {
  const fault = stateKeyFault(key);
  if (fault !== undefined) throw new LoomError('scratch_not_found', `No such scratch state: the key ${fault}.`);
}
