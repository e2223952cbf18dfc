const KiB = 1024;
const MiB = 1024 * KiB;

/** Lists LOOM's bounds, each with its reason. Configuration variables can change some of them. */
export const limits = {
  /** Bounds a document name. An index entry of PostgreSQL has at most 2,704 bytes, and contains the name. */
  maxDocumentNameBytes: 512,

  /**
   * Bounds the canonical text of one document, unless `LOOM_MAX_DOCUMENT_BYTES` is set. A change rewrites every
   * document that it touches, so large documents make small changes slow. A jsonb has at most 255 MiB.
   */
  maxDocumentBytes: 8 * MiB,

  /** Bounds `LOOM_MAX_DOCUMENT_BYTES`. An audit entry contains the change, and an import the entry. */
  maxConfigurableDocumentBytes: 32 * MiB,

  /** Bounds a PUT or PATCH of the whole state. It is one audit entry, and thus one jsonb of at most 255 MiB. */
  maxStateBodyBytes: 32 * MiB,

  /** Bounds one audit entry in a backup: the largest change and the entry's other members. */
  maxAuditEntryBytes: 40 * MiB,

  /** Bounds a backup's manifest, and each member other than the state and the audit entries. */
  maxBackupMemberBytes: 64 * KiB,

  /** Bounds a backup's revision. A restored state continues from it, and a double counts only to 2^53. */
  maxBackupRevision: 2 ** 52,

  /** Caps the revision after a restore, so that later backups stay far below `maxBackupRevision`. */
  maxRestoredRevision: 2 ** 51,

  /** Bounds a text in a backup's header. LOOM writes at most 128 bytes. An import repeats two of these texts. */
  maxBackupHeaderCharacters: 256,

  /** Bounds the members of a backup. LOOM writes thirteen, and other tools may add some. */
  maxBackupHeaderMembers: 64,

  /**
   * Bounds the nesting of an audit entry. An entry adds three levels to a document, and each import adds two more: this
   * allows 34 imports. In the body of a restore, an entry then stays below the 256 levels of `jq` 1.6.
   */
  maxAuditEntryDepth: 128 + 3 + 2 * 34 + 1,

  /** Reserve room for what an import adds to an entry: two levels, a state key and some hundred bytes. */
  auditImportDepth: 2,
  auditImportBytes: 4 * KiB,

  /** Bounds the undo records of one state, for restores and undos that replaced something. */
  maxUndoRecords: 3,

  /** Bounds the additional undo records for restores that replaced nothing. Each takes one row. */
  maxEmptyUndoRecords: 10,

  /** Bound the list of truncating restores whose entries a restore removes: about 300 bytes for each. */
  maxReplacedRestores: 100,
  maxReplacedRestoreBytes: 2 * KiB,

  /** Bounds the body of an undo, which has a few short members. */
  maxUndoBodyBytes: 4 * KiB,

  /**
   * Bounds the nesting of one document. PostgreSQL parses and merges recursively, with a stack of 2 MiB by default.
   * `jq` 1.6 refuses more than 256 levels, and a restore body adds a few.
   */
  maxDocumentDepth: 128,

  /**
   * Bounds one number as written. A double has at most 767 significant digits, but any number of zeros may follow, as
   * in `1.000…0`. Programs write far fewer.
   */
  maxNumberBytes: 64 * KiB,

  /** Bounds a JSON pointer in an error. Its names come from the request, and the response must stay small. */
  maxPointerCharacters: 2_048,

  /** Bounds the whitespace between two tokens, which compresses to almost nothing. No tool indents this far. */
  maxWhitespaceBytes: 1 * MiB,

  /** Bounds a member name that the scanner passes to its caller. A fully escaped document name has 3 KiB. */
  maxMemberNameBytes: 64 * KiB,

  /** Bounds the documents that one commit changes. */
  maxChangesPerCommit: 10_000,

  /** Bounds one batch. Beyond this, sharing an fsync saves less time than the last commit spends waiting. */
  maxBatchCommits: 128,

  /** Bounds the text of the commits in one batch. A larger commit is a batch of its own. */
  maxBatchBytes: 8 * MiB,

  /** Bounds a node's waiting commits. At 1,000 commits a second, the last waits about as long as a client does. */
  maxQueueCommits: 4_096,

  /** Bounds the memory for a node's waiting commits, with room for two bodies of the maximum size. */
  maxQueueBytes: 96 * MiB,

  /** Bounds the wait for a commit. After this time, its outcome is unknown. A healthy fsync takes far less. */
  commitTimeoutMs: 30_000,

  /**
   * Bound the documents that one commit or one batch rewrites, in bytes; a deletion counts a sixteenth, and each change
   * 512 bytes. The state row is locked meanwhile, and other nodes wait. One PATCH with an 8-byte body can rewrite 8 MiB.
   */
  maxCommitWorkBytes: 96 * MiB,
  maxBatchWorkBytes: 32 * MiB,

  /** Bounds the work of a batch without a `statement_timeout`, which needs a transaction of four round trips. */
  maxUntimedWorkBytes: 8 * MiB,
  maxUntimedBatchBytes: 1 * MiB,

  /** Bounds the time in which a batch begins commits, so that other nodes get the lock of the state row in turn. */
  maxCommitHoldMs: 4_000,

  /** Bounds the merges of one commit. Below `commitLockTimeoutMs`, so that other nodes wait and succeed. */
  maxCommitMergeMs: 5_000,

  /** Sets `statement_timeout` of a large batch. Below `commitTimeoutMs`, so that its outcome is never unknown. */
  commitStatementTimeoutMs: 20_000,

  /** Bounds the wait for a short read. After this time, the database counts as down or frozen. */
  queryTimeoutMs: 10_000,

  /** Bounds a commit's wait for the state row. Only another node's batch or a restore's last step locks the row. */
  commitLockTimeoutMs: 10_000,

  /** Bounds a restore's wait for the state row. A batch in flight ends within this time. */
  restoreLockTimeoutMs: 30_000,

  /** Bounds `Idempotency-Key`. It has room for a UUID or ULID with a prefix. */
  maxIdempotencyKeyBytes: 255,

  /** Bounds `x-request-id`. The node replaces a longer or malformed one with a new id. */
  maxRequestIdBytes: 128,

  /** Set the default and maximum number of rows on one page of documents or audit entries. */
  defaultPageEntries: 100,
  maxPageEntries: 1_000,

  /** Bounds a document name in a path, where a byte takes up to three. find-my-way answers 404 to a longer one. */
  maxRouteParameterCharacters: 8 * KiB,

  /** Bound the wrong tokens from one address in the window before 429. The correct token is always accepted. */
  maxWrongTokens: 20,
  wrongTokensWindowSeconds: 60,

  /** Refuses short tokens, which can be guessed. */
  minTokenCharacters: 16,

  /** Bounds a token. Node refuses a request whose headers have more than 16 KiB in total. */
  maxTokenCharacters: 1_024,

  /** Aborts a stream whose reader takes no bytes for this long. A stream occupies a snapshot and a connection. */
  readerIdleTimeoutMs: 60_000,

  /** Aborts a body when no byte arrives for this long, so that a stalled upload frees its connection. */
  bodyIdleTimeoutMs: 60_000,

  /** Bounds each list of added, changed and removed names in a restore's answer. */
  maxPlanNames: 100,

  /** Set the probe's pause, its deadline, and the failed checks that change its verdict. Outages show within 10 s. */
  probeIntervalMs: 1_000,
  probeDeadlineMs: 2_000,
  probeBadChecks: 2,

  /** Sets `Retry-After` while the database is down. A node detects a recovery within 5 s, and usually sooner. */
  databaseRetrySeconds: 2,

  /** Bounds a rollback, which is immediate unless the connection is stuck. Closing the connection also rolls back. */
  rollbackTimeoutMs: 2_000,

  /** Bounds `LOOM_PG_STATE_KEY`, which every index entry contains in addition to a document's name. */
  maxStateKeyBytes: 128,

  /** Starts TCP keep-alive after this idle time, before common firewalls and load balancers time out. */
  keepAliveDelayMs: 10_000,

  /** Bound the growing pause between attempts to reconnect the probe, so that a recovery shows within 5 s. */
  minProbeBackoffMs: 250,
  maxProbeBackoffMs: 1_000,

  /**
   * Bound the raw bytes of a body for each byte of its canonical text. An escape such as `\\u0041` takes six bytes for
   * one character. The canonical bound limits memory, so this one only limits time. The slack allows for the whitespace
   * of tiny documents.
   */
  maxRawBodyFactor: 6,
  rawBodySlackBytes: 64 * KiB,

  /** Bound what the node reads and discards after it refuses a body, so that the client can read the answer. */
  lingerMs: 2_000,
  lingerBytes: 16 * MiB,

  /** Bound the remainder of a body for which the node waits, so that it can keep the connection. */
  lingerSmallBytes: 64 * KiB,
  lingerSmallMs: 500,

  /** Bounds how long status and metrics wait for the database. They must also answer when it does not. */
  observeTimeoutMs: 1_000,

  /** Bounds the counters of wrong tokens, which all addresses share, and thus the memory for them. */
  maxAddressBuckets: 4_096,

  /** Bounds the time for a request's headers, because slow senders occupy sockets. */
  headersTimeoutMs: 60_000,

  /** Keeps an idle connection open longer than the 60 s of common load balancers, so that they close it first. */
  keepAliveTimeoutMs: 72_000,

  /** Bound the growing pause between connection attempts at start, so that a recovery shows within 5 s. */
  minStartBackoffMs: 100,
  maxStartBackoffMs: 2_000,

  /** Bounds how long a closing node waits for connections in use before it cuts them off. */
  poolCloseMs: 5_000,

  /** Bounds a client command's wait for a connection. After this time, the node counts as unreachable. */
  clientConnectTimeoutMs: 10_000,

  /** Bounds a client command's wait for a short operation: the status, or dropping a scratch state. */
  clientAnswerTimeoutMs: 60_000,

  /** Aborts an answer to a client command when no byte arrives for this long. A large state may need this time. */
  clientIdleTimeoutMs: 600_000,

  /** Bounds what a client command reads of a short answer. A status or report has some tens of KiB. */
  maxClientAnswerBytes: 8 * MiB,

  /** Detect a `.part` file of a killed process by its age. A running one touches its file every `partTouchMs`. */
  partStaleMs: 120_000,
  partTouchMs: 30_000,

  /** Bounds the names or ids in the offline verifier's memory: some 20 MB. It reads larger files repeatedly. */
  verifyWindow: 50_000,
} as const;
