const KiB = 1024;

/** Bounds the runs that take, prove and delete stored backups. */
export const runLimits = {
  /** Sets how often a run renews its lease, so that five renewals may fail before it ends. */
  renewLeaseMs: 5_000,

  /**
   * Sets how often a node looks for due runs. Each look is two short statements. A run of a node that died is taken
   * over this long after its lease has ended.
   */
  runTickMs: 5_000,

  /** Bounds the random delay of a look, so that the nodes do not all claim a slot at the same moment. */
  maxRunJitterMs: 1_000,

  /** Sets when a node claims a slot again, in case a failover has lost its row. The claim is one short statement. */
  recheckSlotMs: 60_000,

  /** Sets how often a node tries the backup store, and how often while it fails, so that status follows. */
  storeCheckMs: 300_000,
  storeRecheckMs: 30_000,

  /** Bounds one try of the store. */
  storeCheckTimeoutMs: 60_000,

  /** Sets how often a node looks for what other nodes left behind. */
  sweepIntervalMs: 3_600_000,

  /** Bounds the age of temporary objects. The upload of a running backup writes to its own all the time. */
  maxTemporaryAgeMs: 3_600_000,

  /** Bounds one deletion in the store, from its mark on. */
  deletionTimeoutMs: 30_000,

  /** Bounds how long the reader of a damaged backup waits until the catalogue has noted the fault. */
  noteFaultTimeoutMs: 10_000,

  /** Bounds the deletion of what an aborted run has written. The next sweep would do it. */
  removeOwnMs: 3_000,

  /** Sets when a deletion that has begun counts as left behind. It exceeds `deletionTimeoutMs`. */
  staleDeletionMs: 60_000,

  /**
   * Set how long the claim of a database has to stand in the store before the database deletes earlier backups: after a
   * start of its server, and after a copy, a failover or a recovery. A node of another database looks every
   * `storeCheckMs`. The second time also outlasts a maintenance that stops the nodes of the original.
   */
  minRestartClaimMs: 30 * 60_000,
  minCopyClaimMs: 24 * 3_600_000,

  /** Sets how long a sign of another database counts. It exceeds `storeCheckMs`, so the fault does not come and go. */
  sharedStoreMs: 15 * 60_000,

  /** Bounds the claims that a database remembers as its own. Each start of its server makes one. */
  maxEarlierClaims: 32,

  /** Bounds a request to `LOOM_BACKUP_PING_URL`. */
  pingTimeoutMs: 10_000,

  /** Bounds how long a closing node waits for such a request: a healthy service answers within a second. */
  closePingMs: 1_000,

  /** Bounds how long a closing node waits for its run to abort. */
  closeRunsMs: 5_000,

  /** Sets the size of the page in which a node reads the catalogue. */
  cataloguePageEntries: 200,

  /** Sets the pieces that gzip and gunzip yield. Larger pieces mean fewer turns of the event loop. */
  gzipChunkBytes: 64 * KiB,
} as const;
