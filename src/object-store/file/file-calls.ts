import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { toFileStoreFault } from './file-faults.ts';

/** Runs calls of the file system, and converts their errors. `doing` continues "Could not …". */
export interface FileCalls {
  run<T>(doing: string, call: () => Promise<T>, late?: (result: T) => unknown): Promise<T>;
}

/**
 * Creates the caller of a folder. A call that does not return in time is reported as `store_unreachable`. It keeps its
 * thread, because no call of the file system can be aborted. So until it returns, all further calls are refused.
 * `late` receives the result of a call that was reported already, to close it. Its own error counts no more.
 */
export function createFileCalls(directory: string, timeoutMs: number = limits.fileCallTimeoutMs): FileCalls {
  let stuck = 0;

  function doesNotAnswer(doing: string): LoomError {
    return new LoomError(
      'store_unreachable',
      `Could not ${doing} in the folder ${JSON.stringify(directory)}: a call of the file system has not returned within ` +
        `${timeoutMs / 1000} s. Check the mount and its server. For NFS, the mount options soft and timeo end such calls.`,
    );
  }

  return {
    run: <T>(doing: string, call: () => Promise<T>, late?: (result: T) => unknown): Promise<T> => {
      if (stuck > 0) return Promise.reject(doesNotAnswer(doing));
      return new Promise((resolve, reject) => {
        let isLate = false;
        const timer = setTimeout(() => {
          isLate = true;
          stuck += 1;
          reject(doesNotAnswer(doing));
        }, timeoutMs);
        const settle = (): void => {
          clearTimeout(timer);
          if (isLate) stuck -= 1;
        };
        call().then(
          (result) => {
            settle();
            if (!isLate) return resolve(result);
            // A rejection that nobody awaits would end the process.
            Promise.resolve(result)
              .then(late)
              .catch(() => undefined);
          },
          (error: unknown) => {
            settle();
            reject(toFileStoreFault(error, doing, directory));
          },
        );
      });
    },
  };
}
