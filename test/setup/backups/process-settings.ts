import type { ObjectStoreOptions } from '../../../src/object-store/object-store.ts';

/** Settings of a process that runs backups, as JSON in its only argument. */
export interface RunProcessSettings {
  url: string;
  stateKey: string;
  store: ObjectStoreOptions;
  /** File with the time of the clock, in milliseconds. Each second is a slot, and a drill. */
  clockFile: string;
  leaseMs: number;
  /** Number of proven backups that retention keeps. */
  keep: number;
  /** What the process does instead of following the schedule. Then it prints `done`, and waits. */
  order?: RunOrder | undefined;
  /** Where the process stops for good, such as `after delete of a manifest`. Then it prints `stopped`. */
  stopAt?: string | undefined;
}

/** One request of an operator. `name` is that of a backup. */
export interface RunOrder {
  verb: 'take' | 'drill' | 'remove';
  name?: string;
}
