import { isLoomError } from '../../../src/errors.ts';
import type { StoreHandle } from '../../../src/persistence/store.ts';
import { assertCodeDescribed } from './described.ts';

/** Maps each verb of the store to the operations that call it. */
const callers: Record<string, string[]> = {
  submitCommit: ['putDocument', 'patchDocument', 'deleteDocument', 'putState', 'patchState'],
  readDocument: ['readDocument'],
  listDocuments: ['listDocuments'],
  readHistory: ['readDocumentHistory'],
  openState: ['readState'],
  readAudit: ['readAudit'],
  openAudit: ['readAudit'],
  verifyAudit: ['verifyAudit'],
  openBackup: ['readBackup'],
  restore: ['restoreBackup'],
  undo: ['undoRestore'],
  dropScratch: ['dropScratch'],
};

/**
 * Checks that docs/openapi.json has each code with which a verb rejects, for an operation that calls the verb. Most
 * failures are tested without HTTP.
 */
export function describeRefusals(store: StoreHandle): StoreHandle {
  return new Proxy(store, {
    get: (target, name) => {
      const verb: unknown = Reflect.get(target, name);
      const operations = callers[String(name)];
      if (operations === undefined || typeof verb !== 'function') return verb;
      return (...given: unknown[]): Promise<unknown> =>
        Promise.resolve(verb(...given)).catch((error: unknown) => {
          if (isLoomError(error)) assertCodeDescribed(operations, error.code);
          throw error;
        });
    },
  });
}
