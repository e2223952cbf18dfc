/** Bounds the runs that take and prove stored backups. */
export const backupRunLimits = {
  /**
   * Bounds how long a run stays with a node that renews no lease: a pause of the node or the database may take some
   * seconds. After this time another node takes over, so a node that died costs a schedule half a minute. Nodes take a
   * lease of more than twice this time for one from before a jump of the clock, so no version may more than double it.
   */
  backupLeaseMs: 30_000,

  /**
   * Bounds the failed attempts at a slot. The next slot is an attempt, too, so more of them would only hide a store
   * that is away.
   */
  maxFailedAttempts: 3,

  /** Bounds the abandoned attempts at a slot: a run that ends its node each time would otherwise end all nodes. */
  maxAbandonedAttempts: 10,

  /**
   * Set the pause after the first failed attempt, and its growth for each further one: 30 s, 2 min. A store that
   * restarts is back after the second.
   */
  minRetryBackoffMs: 30_000,
  retryBackoffFactor: 4,

  /**
   * Bounds the slots of each kind whose rows stay after their backup is gone. With a run each hour, they cover six
   * weeks: longer than an incident takes to be looked into.
   */
  maxKeptSlots: 1_000,

  /** Keeps the rows of the last day, however short the pause between two slots is. */
  minKeptRunMs: 24 * 3_600_000,

  /** Bounds the runs that status shows as running. Only one a node runs at a time. */
  maxShownRuns: 100,
} as const;
