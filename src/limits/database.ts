const MiB = 1024 * 1024;

/** Bounds the work with the database: commits, statements, streams and the probe. */
export const databaseLimits = {
  /** Bounds one batch. Beyond this, sharing an fsync saves less time than the last commit spends waiting. */
  maxBatchCommits: 128,

  /** Bounds the text of the commits in one batch. A larger commit is a batch of its own. */
  maxBatchBytes: 8 * MiB,

  /** Bounds a node's waiting commits. At 1,000 commits a second, the last waits about as long as a client does. */
  maxQueueCommits: 4_096,

  /** Bounds the text of a node's waiting commits. `maxBodiesBytes` covers it, and has room for the largest change. */
  maxQueueBytes: 44 * MiB,

  /** Bounds the wait for a commit. After this time, its outcome is unknown. A healthy fsync takes far less. */
  commitTimeoutMs: 30_000,

  /**
   * Bound the documents that one commit or one batch rewrites, in bytes; a deletion counts a sixteenth, each change 512
   * bytes, and each object of a merge patch 1,024. The state row is locked meanwhile, and other nodes wait. One PATCH
   * with an 8-byte body can rewrite 8 MiB.
   */
  maxCommitWorkBytes: 96 * MiB,
  maxBatchWorkBytes: 32 * MiB,

  /** Bounds the work of a batch without a `statement_timeout`, which needs a transaction of four round trips. */
  maxUntimedWorkBytes: 8 * MiB,
  maxUntimedBatchBytes: 1 * MiB,

  /** Bounds the time in which a batch begins commits, so that other nodes get the lock of the state row in turn. */
  maxCommitHoldMs: 4_000,

  /** Bounds the merges of one commit. Below `commitLockTimeoutMs`, so that other nodes wait and succeed. */
  maxCommitMergeMs: 4_000,

  /** Sets `statement_timeout` of a large batch. Below `commitTimeoutMs`, so that its outcome is never unknown. */
  commitStatementTimeoutMs: 20_000,

  /** Bounds the statements that read documents at once. One would wait while the node works on its answer. */
  maxReadBatches: 2,

  /** Bounds the documents of such a statement. Each has at most `smallTextBytes`. */
  maxBatchReads: 64,

  /**
   * Bounds the entries that a backup reads from one snapshot. A tenth of a second at full speed: a new snapshot takes
   * two milliseconds.
   */
  maxSnapshotEntries: 10_000,

  /** Bounds the wait for a short read. After this time, the database counts as down or frozen. */
  queryTimeoutMs: 10_000,

  /**
   * Set when a commit without an answer makes the node ask the server about it, how long the node waits for that
   * answer, and how much longer for the commit's own answer if the server knows nothing of it. Together they stay below
   * 5 s.
   */
  suspectAfterMs: 2_500,
  suspectLookMs: 1_000,
  suspectGraceMs: 250,

  /**
   * Gives a large statement time to reach the server before the node asks about it: at this rate, the largest commit
   * arrives within 22 s. It must not look lost on the way, because the node would send all of it again.
   */
  minDatabaseBytesPerSecond: 2 * MiB,

  /**
   * Bounds a commit's wait for the state row. Only another node's batch, a restore's last step or a reindex locks the
   * row.
   */
  commitLockTimeoutMs: 10_000,

  /** Bounds the last wait of a commit for the row. Shorter attempts would burden the database and hardly succeed. */
  minCommitLockMs: 500,

  /** Bounds a restore's wait for the state row. A batch in flight ends within this time. */
  restoreLockTimeoutMs: 30_000,

  /**
   * Bounds how long a restore's transaction may be idle before PostgreSQL ends it. Between two statements, a restore
   * waits for its body, which a slow client may send at `minClientBytesPerSecond`.
   */
  operationIdleTimeoutMs: 300_000,

  /**
   * Bounds the same once the state row is locked. The node then waits for nothing, so an idle transaction has lost its
   * node. Commits wait longer (`commitLockTimeoutMs`), so they survive.
   */
  lockedIdleTimeoutMs: 5_000,

  /** Bound the time, and the probes, until PostgreSQL notices that the node of a restore is lost. */
  lostNodeTimeoutMs: 30_000,
  lostNodeProbes: 4,

  /** Set the probe's pause, its deadline, and the failed checks that change its verdict. Outages show within 10 s. */
  probeIntervalMs: 1_000,
  probeDeadlineMs: 2_000,
  probeBadChecks: 2,

  /** Bounds the checks of the probe's connection. A new session follows a failover and changed settings of the role. */
  maxProbeConnectionChecks: 30,

  /** Bounds the wait of a commit for a synchronous standby. A healthy standby confirms within milliseconds. */
  maxCommitStallMs: 2_000,

  /** Set when failed commits turn the verdict: several in a row, and the last one this recent. */
  minFailedCommitBatches: 3,
  maxCommitFailureAgeMs: 15_000,

  /**
   * Set the parallel workers and the memory of each for a verification, unless the server's own settings are higher.
   * Two workers use the cores of a small server, and each sorts or hashes some 200,000 changes in this memory.
   */
  verifyWorkers: 2,
  verifyWorkMemoryBytes: 32 * MiB,

  /** Sets the size from which a verification reads a table in parallel. Starting workers takes some milliseconds. */
  minParallelVerifyBytes: 64 * 1024,

  /** Bounds the mismatches that a verification lists. An operator looks at a few, then at the cause of all. */
  maxListedMismatches: 100,

  /**
   * Bound the entries whose hash the node computes itself in a verification, and the size of each. If all entries of a
   * trail are wrong, one is enough to find that; to hash all would double the time.
   */
  maxSampledEntries: 256,
  maxSampledBytes: 64 * 1024,

  /** Sets `Retry-After` while the database is down. A node detects a recovery within 5 s, and usually sooner. */
  databaseRetrySeconds: 2,

  /** Bounds a rollback, which is immediate unless the connection is stuck. Closing the connection also rolls back. */
  rollbackTimeoutMs: 2_000,

  /**
   * Set how often the node asks the server of a quiet stream whether it is still there, how long it waits for the
   * answer, and after how many failures in a row it ends the stream: about half a minute, which a busy server survives.
   */
  streamCheckMs: 10_000,
  streamLookMs: 5_000,
  maxServerMisses: 3,

  /** Bounds the hosts of `LOOM_PG_URL`, which share the time to connect. */
  maxDatabaseHosts: 8,

  /** Sets `Retry-After` when the share for streams is used up. Most reads of the state end within a second. */
  streamsRetrySeconds: 2,

  /** Starts TCP keep-alive after this idle time, before common firewalls and load balancers time out. */
  keepAliveDelayMs: 10_000,

  /** Bound the growing pause between attempts to reconnect the probe, so that a recovery shows within 5 s. */
  minProbeBackoffMs: 250,
  maxProbeBackoffMs: 1_000,

  /** Bound the growing pause between connection attempts at start, so that a recovery shows within 5 s. */
  minStartBackoffMs: 100,
  maxStartBackoffMs: 2_000,

  /** Bounds how long a closing node waits for connections in use before it cuts them off. */
  poolCloseMs: 5_000,

  /** Bounds how long status and metrics wait for the database. They must also answer when it does not. */
  observeTimeoutMs: 1_000,

  /**
   * Bounds how far the database's clock may have gone back, for a selection of audit entries by time: the node also
   * looks at the entries of this time before and after. A clock that a time server corrects goes back by seconds.
   */
  maxClockStepMs: 600_000,

  /**
   * Bounds the stored bytes of the audit entries that a page of a document's history reads. PostgreSQL decompresses an
   * entry to read its actor, up to 90 times as many bytes. A page then takes at most some seconds.
   */
  maxHistoryEntryBytes: 16 * MiB,

  /** Bounds the actor and the action in a history. Those that LOOM writes are never longer. */
  maxHistoryTextCharacters: 128,

  /** Bounds how often metrics ask for the size of the database, because PostgreSQL then looks at each of its files. */
  sizesIntervalMs: 60_000,
} as const;
