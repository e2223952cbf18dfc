const KiB = 1024;
const MiB = 1024 * KiB;

/** Bounds of LOOM, each with its reason. An operator can change some of them with configuration variables. */
export const limits = {
  /** PostgreSQL indexes names byte by byte; 512 bytes keep an index entry well below the maximum of 2,704 bytes. */
  maxDocumentNameBytes: 512,

  /**
   * Canonical text of one document, unless `LOOM_MAX_DOCUMENT_BYTES` is set. A change rewrites every document that it
   * touches, so large documents make small changes slow: split them. PostgreSQL's maximum for one jsonb is 255 MiB.
   */
  maxDocumentBytes: 8 * MiB,

  /** The maximum of `LOOM_MAX_DOCUMENT_BYTES`: an audit entry must hold the change, and an import the entry. */
  maxConfigurableDocumentBytes: 32 * MiB,

  /** A PUT or PATCH of the whole state is one commit and one audit entry, which is one jsonb of at most 255 MiB. */
  maxStateBodyBytes: 32 * MiB,

  /** One audit entry in a backup: the largest change and its other members. */
  maxAuditEntryBytes: 40 * MiB,

  /** A backup's manifest, and each other small member beside state and audit entries. */
  maxBackupMemberBytes: 64 * KiB,

  /** A restored state counts on from its backup's revision, which a double must still count exactly. */
  maxBackupRevision: 2 ** 52,

  /** A restore counts on from at most this, so that later backups stay below `maxBackupRevision` for long. */
  maxRestoredRevision: 2 ** 51,

  /** A text in a backup's header: LOOM's have at most 128 bytes. An import repeats two (`auditImportBytes`). */
  maxBackupHeaderCharacters: 256,

  /** Members of a backup: LOOM writes thirteen, and other tools may add some. */
  maxBackupHeaderMembers: 64,

  /**
   * An entry adds three levels to a document, and each import of the entry adds two more: this leaves room for 34
   * imports. In the body of a restore, an entry then stays below the 256 levels of `jq` 1.6.
   */
  maxAuditEntryDepth: 128 + 3 + 2 * 34 + 1,

  /** What an import adds to an entry: two levels, a state key and some hundred bytes. */
  auditImportDepth: 2,
  auditImportBytes: 4 * KiB,

  /** Undo records of restores and undos that replaced something, for each state. */
  maxUndoRecords: 3,

  /** Undo records of restores that replaced nothing, kept in addition: one row each. */
  maxEmptyUndoRecords: 10,

  /** Truncating restores that a restore names because it removes their entries: about 300 bytes each. */
  maxReplacedRestores: 100,
  maxReplacedRestoreBytes: 2 * KiB,

  /** The body of an undo has a few short members. */
  maxUndoBodyBytes: 4 * KiB,

  /**
   * Nesting of one document. PostgreSQL parses and merges recursively with a stack of 2 MiB by default. `jq` 1.6
   * refuses more than 256 levels, and a restore body adds a few.
   */
  maxDocumentDepth: 128,

  /**
   * One number as written. A double has at most 767 significant digits, but more zeros may follow, as in `1.000…0`.
   * This is far more than programs write, and fits easily into memory.
   */
  maxNumberBytes: 64 * KiB,

  /** A JSON pointer in an error: its names come from the request, and the answer must stay small. */
  maxPointerCharacters: 2_048,

  /** Whitespace between two tokens: no tool indents this far, and compressed it costs a sender nothing. */
  maxWhitespaceBytes: 1 * MiB,

  /** A member name that the scanner passes to its caller: a fully escaped document name has 3 KiB. */
  maxMemberNameBytes: 64 * KiB,

  /** Documents that one commit may change. */
  maxChangesPerCommit: 10_000,

  /** Commits in one batch: with more, sharing an fsync gains less time than the last commit loses by waiting. */
  maxBatchCommits: 128,

  /** Text of the commits in one batch. A single larger commit is a batch of its own. */
  maxBatchBytes: 8 * MiB,

  /** Waiting commits of one node: at 1,000 commits a second, the last one waits about as long as a client does. */
  maxQueueCommits: 4_096,

  /** Text of the waiting commits of one node: bounds its memory, with room for two bodies of the maximum size. */
  maxQueueBytes: 96 * MiB,

  /** After this time without an answer, the outcome of a commit is unknown. A healthy fsync takes far less. */
  commitTimeoutMs: 30_000,

  /** After this time without an answer to a short read, the database counts as down or frozen. */
  queryTimeoutMs: 10_000,

  /** How long a commit waits for the state row, which only another node's batch or a restore's last step locks. */
  commitLockTimeoutMs: 10_000,

  /** How long a restore waits for the state row; a batch in flight ends within this time. */
  restoreLockTimeoutMs: 30_000,

  /** `Idempotency-Key`: room for a uuid or ulid with a prefix. */
  maxIdempotencyKeyBytes: 255,

  /** `x-request-id`: the node replaces a longer or unusual one with a new id. */
  maxRequestIdBytes: 128,

  /** Rows on one page of documents or audit entries: default and maximum. */
  defaultPageEntries: 100,
  maxPageEntries: 1_000,

  /** A percent-encoded document name has three bytes for each byte. find-my-way answers 404 to a longer parameter. */
  maxRouteParameterCharacters: 8 * KiB,

  /** Wrong tokens from one address within the window before 429. The correct token is always accepted. */
  maxWrongTokens: 20,
  wrongTokensWindowSeconds: 60,

  /** Shorter tokens can be guessed. */
  minTokenCharacters: 16,

  /** Node refuses a request whose headers have more than 16 KiB in total. */
  maxTokenCharacters: 1_024,

  /** A stream whose reader takes no bytes for this long is aborted: it occupies a snapshot and a connection. */
  readerIdleTimeoutMs: 60_000,

  /** A body is aborted when no byte arrives for this long, so that a stalled upload frees its connection. */
  bodyIdleTimeoutMs: 60_000,

  /** Names that a restore's answer lists for each of added, changed and removed. */
  maxPlanNames: 100,

  /** Probe: pause, time for one check, and failed checks that change the verdict; outages show within 10 s. */
  probeIntervalMs: 1_000,
  probeDeadlineMs: 2_000,
  probeBadChecks: 2,

  /** `Retry-After` while the database is down. A node sees a recovery within 5 s, and mostly sooner. */
  databaseRetrySeconds: 2,

  /** A rollback is immediate unless the connection is stuck. Closing the connection then has the same effect. */
  rollbackTimeoutMs: 2_000,

  /** `LOOM_PG_STATE_KEY` is in every index entry beside a document's name. */
  maxStateKeyBytes: 128,

  /** TCP keep-alive starts after this idle time, before common firewalls and load balancers time out. */
  keepAliveDelayMs: 10_000,

  /** Pause between two attempts to reconnect the probe. It grows to a second, so that a recovery shows within 5 s. */
  minProbeBackoffMs: 250,
  maxProbeBackoffMs: 1_000,

  /**
   * Raw bytes of a body for each byte of its canonical text: an escape such as `\\u0041` takes six bytes for one
   * character. The canonical bound limits memory, so this one only limits time. The slack is for the whitespace of tiny
   * documents.
   */
  maxRawBodyFactor: 6,
  rawBodySlackBytes: 64 * KiB,

  /** After refusing a body, the node reads and discards this much of it, so that the client can read the answer. */
  lingerMs: 2_000,
  lingerBytes: 16 * MiB,

  /** The node waits for a small rest of a body, so that it can keep the connection. */
  lingerSmallBytes: 64 * KiB,
  lingerSmallMs: 500,

  /** How long status and metrics wait for the database: they must also answer when it does not. */
  observeTimeoutMs: 1_000,

  /** Addresses share this many counters of wrong tokens, which bounds the memory that many addresses can use. */
  maxAddressBuckets: 4_096,

  /** A request's headers must be complete within this time, because slow senders occupy sockets. */
  headersTimeoutMs: 60_000,

  /** An idle connection stays open for longer than the 60 s of common load balancers, so that they close it first. */
  keepAliveTimeoutMs: 72_000,

  /** Pause between attempts to reach the database at start: short at first; a recovery must show within 5 s. */
  minStartBackoffMs: 100,
  maxStartBackoffMs: 2_000,

  /** When a node closes, it cuts off connections that are still in use after this time. */
  poolCloseMs: 5_000,

  /** Client commands: a node that does not accept a connection within this time counts as unreachable. */
  clientConnectTimeoutMs: 10_000,

  /** Client commands: status and dropping a scratch state are short; restores and verification are not. */
  clientAnswerTimeoutMs: 60_000,

  /** Client commands: an answer without a byte for this long is aborted. A large state may need this time. */
  clientIdleTimeoutMs: 600_000,

  /** Client commands: bytes to read of an answer that should be short. A status or report has some tens of KiB. */
  maxClientAnswerBytes: 8 * MiB,

  /** A `.part` file untouched for this long is left over from a killed process; others touch theirs. */
  partStaleMs: 120_000,
  partTouchMs: 30_000,

  /** Names, or ids, that the offline verifier keeps in memory at once: some 20 MB. Larger files take more readings. */
  verifyWindow: 50_000,
} as const;
