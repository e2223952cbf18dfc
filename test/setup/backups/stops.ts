import { Readable } from 'node:stream';
import type { RunLedger } from '../../../src/domain/backup-run.ts';
import type { ObjectStore } from '../../../src/domain/object-store.ts';
import type { BackupVerbs } from '../../../src/runs/parts.ts';

export interface StoppedParts {
  ledger: RunLedger;
  store: ObjectStore;
  verbs: BackupVerbs;
}

/** Stops the process for good at a step. */
export interface Stops {
  /** Reports that a step is reached. Never resolves if it is the one to stop at. */
  reach(step: string): Promise<void>;
}

/** Creates the stops of a process. `report` receives each step that it reaches. */
export function createStops(stopAt: string | undefined, report: (line: string) => void): Stops {
  return {
    reach: async (step) => {
      report(`step ${step}`);
      if (step !== stopAt) return;
      report('stopped');
      await new Promise(() => undefined);
    },
  };
}

/** Verbs that change the database. Each has a step before it, and one after it. */
const ledgerVerbs = [
  'claimNow',
  'nameBackup',
  'recordWritten',
  'recordProven',
  'recordFailed',
  'beginDeletion',
  'recordDeleted',
] as const;

/** Puts steps before and after each change of the database or of the store, and in the middle of each transfer. */
export function withStops({ ledger, store, verbs }: StoppedParts, stops: Stops): StoppedParts {
  const around = async <T>(what: string, call: () => Promise<T>): Promise<T> => {
    await stops.reach(`before ${what}`);
    const result = await call();
    await stops.reach(`after ${what}`);
    return result;
  };
  const stopped = { ...ledger };
  for (const verb of ledgerVerbs) {
    const call = ledger[verb] as (...given: unknown[]) => Promise<unknown>;
    Object.assign(stopped, { [verb]: (...given: unknown[]) => around(verb, () => call(...given)) });
  }
  return {
    ledger: stopped,
    store: {
      ...store,
      put: (name, content, signal) => {
        const what = `put of a ${kindOf(name)}`;
        return around(what, () =>
          store.put(
            name,
            inTwo(content, () => stops.reach(`amid ${what}`)),
            signal,
          ),
        );
      },
      get: async (name, signal) => {
        const content = await store.get(name, signal);
        return kindOf(name) === 'backup' ? inTwo(content, () => stops.reach('amid get of a backup')) : content;
      },
      delete: (name, signal) => around(`delete of a ${kindOf(name)}`, () => store.delete(name, signal)),
    },
    verbs: {
      ...verbs,
      restore: (...given) => around('restore', () => verbs.restore(...given)),
      dropScratch: (...given) => around('dropScratch', () => verbs.dropScratch(...given)),
    },
  };
}

function kindOf(name: string): string {
  if (name.endsWith('-store.json')) return 'marker';
  return name.endsWith('.manifest.json') ? 'manifest' : 'backup';
}

/** Passes a content on, and stops once on the way, after its first bytes. */
function inTwo(content: Readable, middle: () => Promise<void>): Readable {
  async function* pieces(): AsyncGenerator<Buffer> {
    let isAmid = false;
    for await (const chunk of content as AsyncIterable<Buffer>) {
      const half = chunk.length >> 1;
      yield chunk.subarray(0, half);
      if (!isAmid) await middle();
      isAmid = true;
      yield chunk.subarray(half);
    }
  }
  const passed = Readable.from(pieces(), { objectMode: false });
  passed.once('close', () => content.destroy());
  return passed;
}
