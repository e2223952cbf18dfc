/** Settings of a scheduler in a process of its own, as JSON in its only argument. */
export interface RunProcessSettings {
  url: string;
  stateKey: string;
  /** Folder of the backup store. */
  directory: string;
  /** File with the time of the clock, in milliseconds. Each second is a slot, and a drill. */
  clockFile: string;
  leaseMs: number;
  /** Number of proven backups that retention keeps. */
  keep: number;
}
