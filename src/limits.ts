const KiB = 1024;
const MiB = 1024 * KiB;

/** Every bound of LOOM, each with its reason. What an operator may want to change is a configuration variable too. */
export const limits = {
  /** PostgreSQL compares and indexes names byte by byte; 512 bytes keep an index entry well below a page's limit of 2,704. */
  maxDocumentNameBytes: 512,

  /**
   * Canonical text of one document, unless `LOOM_MAX_DOCUMENT_BYTES` says otherwise. A change rewrites the documents that it
   * touches, so a larger one makes every small change slow: split it. PostgreSQL's own bound for one jsonb is 255 MiB.
   */
  maxDocumentBytes: 8 * MiB,

  /** The largest value that `LOOM_MAX_DOCUMENT_BYTES` may have: an audit entry must hold the change, and an import the entry. */
  maxConfigurableDocumentBytes: 32 * MiB,

  /** A PUT or PATCH of the whole state travels in one commit and is kept in one audit entry (jsonb: 255 MiB at most). */
  maxStateBodyBytes: 32 * MiB,

  /** One audit entry in a backup: the largest change, and room for what surrounds it. */
  maxAuditEntryBytes: 40 * MiB,

  /** A backup's manifest, and each other small member beside state and audit entries. */
  maxBackupMemberBytes: 64 * KiB,

  /** A restored state goes on counting from its backup's revision, and must not come to numbers that a double cannot count. */
  maxBackupRevision: 2 ** 52,

  /** From no higher revision of a backup does a state count on: or its own backups would soon be above the bound, and not restore. */
  maxRestoredRevision: 2 ** 51,

  /** A text of a backup's header: LOOM's have 128 bytes at most. Each entry that is imported repeats two of them (`auditImportBytes`). */
  maxBackupHeaderCharacters: 256,

  /** Names that a backup's header may have; it has nine, and other tools may add some. */
  maxBackupHeaderMembers: 64,

  /**
   * An entry wraps a document in three levels, and each import of it adds two more: room for 34 of them. With what is around an
   * entry in the body of a restore it stays below the 256 levels of `jq` 1.6.
   */
  maxAuditEntryDepth: 128 + 3 + 2 * 34 + 1,

  /** What an import adds to an entry: two levels, and some hundred bytes beside a state key. */
  auditImportDepth: 2,
  auditImportBytes: 4 * KiB,

  /** Restores and undos of which a state keeps what they replaced (design §7). */
  maxUndoRecords: 3,

  /** Restores that have replaced nothing are kept beside those, for the record: a row each. */
  maxEmptyUndoRecords: 10,

  /** Truncating restores that a restore names because it takes their entries out: some 300 bytes each, in its own entry. */
  maxReplacedRestores: 100,
  maxReplacedRestoreBytes: 2 * KiB,

  /** The body of an undo: a few short members. */
  maxUndoBodyBytes: 4 * KiB,

  /**
   * Nesting of one document. Merging and parsing recurse in PostgreSQL, whose stack is 2 MiB by default, and `jq` 1.6 refuses
   * more than 256 levels: a backup in a restore body adds a few.
   */
  maxDocumentDepth: 128,

  /**
   * One number as it is written: a double has 767 significant digits at most, the rest can only be zeros, but `1.000…0` is
   * legal. Far above what any program writes, and little enough to hold in memory.
   */
  maxNumberBytes: 64 * KiB,

  /** A JSON pointer in an error: names in it are the client's, and an answer must not be as large as the request. */
  maxPointerCharacters: 2_048,

  /** Whitespace between two tokens of JSON: no tool indents so far, and packed it is next to nothing, however much it unpacks to. */
  maxWhitespaceBytes: 1 * MiB,

  /** A member name that the scanner hands to the code around it: a document's name, all escaped, has 3 KiB. */
  maxMemberNameBytes: 64 * KiB,

  /** Documents that one commit may change. */
  maxChangesPerCommit: 10_000,

  /** Commits in one batch: beyond this the gain of one more in the same fsync is below what the last one waits for. */
  maxBatchCommits: 128,

  /** Text of the commits in one batch; a single larger commit travels alone. */
  maxBatchBytes: 8 * MiB,

  /** Commits waiting in one node: at 1,000 a second the last one waits for about as long as a client is patient. */
  maxQueueCommits: 4_096,

  /** Text of the commits waiting in one node: bounds its memory, with room for two bodies of the largest size. */
  maxQueueBytes: 96 * MiB,

  /** A commit without an answer after this long has an unknown outcome; well above any healthy fsync. */
  commitTimeoutMs: 30_000,

  /** A short read without an answer after this long meets a database that is down or frozen. */
  queryTimeoutMs: 10_000,

  /** How long a commit waits for the state row, which only another node's batch or a restore's last step holds. */
  commitLockTimeoutMs: 10_000,

  /** How long a restore waits for the state row; a batch in flight is over by then. */
  restoreLockTimeoutMs: 30_000,

  /** `Idempotency-Key`: room for any uuid or ulid with a prefix. */
  maxIdempotencyKeyBytes: 255,

  /** `x-request-id` that is taken over; a longer or odd one is replaced by a fresh one. */
  maxRequestIdBytes: 128,

  /** Rows of one page of documents or of audit entries: default and most. */
  defaultPageEntries: 100,
  maxPageEntries: 1_000,

  /** A percent-encoded document name has three bytes for one; find-my-way answers 404 to a longer parameter. */
  maxRouteParameterCharacters: 8 * KiB,

  /** Wrong tokens from one address within the window before 429. The right token is let in whatever came before. */
  maxWrongTokens: 20,
  wrongTokensWindowSeconds: 60,

  /** Fewer characters than this can be guessed. */
  minTokenCharacters: 16,

  /** Node refuses a request whose headers have more than 16 KiB together. */
  maxTokenCharacters: 1_024,

  /** A reader of a stream that takes nothing for this long is given up: it holds a snapshot and a connection. */
  readerIdleTimeoutMs: 60_000,

  /** A body from which no byte comes for this long is given up, so that a stalled upload frees its connection. */
  bodyIdleTimeoutMs: 60_000,

  /** Names that a restore's answer lists for each of added, changed and removed. */
  maxPlanNames: 100,

  /** Probe: between checks, for one check, and how many bad ones in a row make a verdict (§8: outage seen within 10 s). */
  probeIntervalMs: 1_000,
  probeDeadlineMs: 2_000,
  probeBadChecks: 2,

  /** `Retry-After` while the database is away: what a node needs at most to see a recovery is 5 s, and most take less. */
  databaseRetrySeconds: 2,

  /** A rollback is immediate unless the connection is stuck; then closing it does the same. */
  rollbackTimeoutMs: 2_000,

  /** `LOOM_PG_STATE_KEY` stands in every index entry beside a document's name. */
  maxStateKeyBytes: 128,

  /** An idle connection is probed after this long, before the timeouts of common firewalls and load balancers. */
  keepAliveDelayMs: 10_000,

  /** Pause between two attempts to reconnect the probe: grows to a second, so that a recovery still shows within 5 s. */
  minProbeBackoffMs: 250,
  maxProbeBackoffMs: 1_000,

  /**
   * Raw bytes of a body for one byte of its canonical text: a `\\u0041` escape takes six for a character of one. Nothing is
   * held of what is over the canonical bound, so this only bounds time. The slack is for the whitespace of tiny documents.
   */
  maxRawBodyFactor: 6,
  rawBodySlackBytes: 64 * KiB,

  /** A body that nobody reads any more is taken in for so long, so that the client gets to read why. */
  lingerMs: 2_000,
  lingerBytes: 16 * MiB,

  /** A small rest of a body that is already on its way: waited for, so that the connection can be kept. */
  lingerSmallBytes: 64 * KiB,
  lingerSmallMs: 500,

  /** What status and metrics wait for the database: they must answer while it does not. */
  observeTimeoutMs: 1_000,

  /** Addresses are counted in so many buckets: bounds the memory that wrong tokens from everywhere can take. */
  maxAddressBuckets: 4_096,

  /** A header of a request must be complete after this long (slow senders keep sockets). */
  headersTimeoutMs: 60_000,

  /** An idle connection is kept for longer than the 60 s of common load balancers, so that they close first. */
  keepAliveTimeoutMs: 72_000,

  /** Between attempts to bring the database up at start: short at first, and a recovery must show within 5 s (§8). */
  minStartBackoffMs: 100,
  maxStartBackoffMs: 2_000,

  /** What is still on a connection when a node closes is cut off after this long. */
  poolCloseMs: 5_000,

  /** Client commands: a node that cannot be connected to after this long is not there. */
  clientConnectTimeoutMs: 10_000,

  /** Client commands: status, and dropping a scratch state, are short; only plan, restore, undo and verifying take any time. */
  clientAnswerTimeoutMs: 60_000,

  /** Client commands: an answer that stands still for this long is given up; a node that reads a large state may take its time. */
  clientIdleTimeoutMs: 600_000,

  /** Client commands: what is read of an answer that should be short. A status or report has some tens of KiB. */
  maxClientAnswerBytes: 8 * MiB,

  /** A `.part` that nobody has touched for this long was left behind by a process that was killed; a living one touches its own. */
  partStaleMs: 120_000,
  partTouchMs: 30_000,

  /** Names, or ids, that the offline verifier holds at once: some 20 MB. A file of any size takes as many readings as it needs. */
  verifyWindow: 50_000,
} as const;
