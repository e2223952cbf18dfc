const KiB = 1024;
const MiB = 1024 * KiB;

const maxDocumentNameBytes = 512;
const maxStateBodyBytes = 32 * MiB;
const maxChangesPerCommit = 10_000;

/**
 * Bounds the audit entry of a commit by an earlier version, which replaced every document: 47.6 MiB. The entry has the
 * body, and the name of each new and each deleted document. A quote in a name takes two bytes. The bound of the body
 * counted only the first of them.
 */
export const maxEarlierEntryBytes =
  maxStateBodyBytes +
  maxChangesPerCommit * (maxDocumentNameBytes + 64) +
  maxChangesPerCommit * (2 * maxDocumentNameBytes + 40) +
  4 * KiB;

/** Lists LOOM's bounds, each with its reason. Configuration variables can change some of them. */
export const limits = {
  /** Bounds a document name. An index entry of PostgreSQL has at most 2,704 bytes, and contains the name. */
  maxDocumentNameBytes,

  /**
   * Bounds the canonical text of one document, unless `LOOM_MAX_DOCUMENT_BYTES` is set. A change rewrites every
   * document that it touches, so large documents make small changes slow. A jsonb has at most 255 MiB.
   */
  maxDocumentBytes: 8 * MiB,

  /** Bounds `LOOM_MAX_DOCUMENT_BYTES`. An audit entry contains the change, and an import the entry. */
  maxConfigurableDocumentBytes: 32 * MiB,

  /** Bounds a PUT or PATCH of the whole state. It is one audit entry, and thus one jsonb of at most 255 MiB. */
  maxStateBodyBytes,

  /** Bounds the audit entry of a commit, a restore or an undo: the largest change and the entry's other members. */
  maxAuditEntryBytes: 40 * MiB,

  /** Bounds an entry that a restore imports. It has room for the largest entry and 32 imports of it, at least. */
  maxImportedEntryBytes: maxEarlierEntryBytes + 128 * KiB,

  /**
   * Bounds an entry for every reader, and for the imports of an undo. It exceeds what all other writers may make, so an
   * undo can import each entry that a restore removes. A jsonb has at most 255 MiB.
   */
  maxReadableEntryBytes: 48 * MiB,

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
   * Bounds the nesting of an entry that a restore imports. An entry adds three levels to a document, and each import
   * adds two more: this allows 34 imports.
   */
  maxAuditEntryDepth: 128 + 3 + 2 * 34 + 1,

  /**
   * Bounds the nesting of an entry for every reader, and for the imports of an undo: 25 more imports. In the body of a
   * restore, which adds three levels, an entry stays below the 256 levels of `jq` 1.6.
   */
  maxReadableEntryDepth: 128 + 3 + 2 * 34 + 1 + 2 * 25,

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
  maxChangesPerCommit,

  /** Bounds one batch. Beyond this, sharing an fsync saves less time than the last commit spends waiting. */
  maxBatchCommits: 128,

  /** Bounds the text of the commits in one batch. A larger commit is a batch of its own. */
  maxBatchBytes: 8 * MiB,

  /** Bounds a node's waiting commits. At 1,000 commits a second, the last waits about as long as a client does. */
  maxQueueCommits: 4_096,

  /** Bounds the text of a node's waiting commits. `maxBodiesBytes` covers it, and has room for the largest change. */
  maxQueueBytes: 44 * MiB,

  /**
   * Bound the memory of a node for the requests in flight on all connections. With the node's own 60 MiB and the streams,
   * they fit into `--max-old-space-size=256` and a container of 512 MiB. The first covers each body from its first byte
   * to its answer, so it also covers the queue of commits. The second covers answers, pages and lines of streams.
   */
  maxBodiesBytes: 68 * MiB,
  maxAnswersBytes: 40 * MiB,

  /**
   * Convert a text to memory. A body that is being read exists as strings of one or two bytes for each character. A
   * commit exists as strings and as the text for PostgreSQL. An answer exists as PostgreSQL's bytes, as a string, and as the bytes for the socket.
   */
  bodyMemoryFactor: 1.5,
  commitMemoryFactor: 2,
  answerMemoryFactor: 3,

  /** Bounds the buffers of an open body: of the socket, the decoder and the scanner. A shorter body needs less. */
  openBodyBytes: 128 * KiB,

  /** Protects a body or answer from losing its memory to another one during this time. A fast client needs no more. */
  minMemoryHoldMs: 1_000,

  /** Bounds how long a read waits for memory for a large document, page or entry. Other reads free theirs in less. */
  memoryWaitMs: 5_000,

  /**
   * Refuses a client that sends a body or takes an answer more slowly than this, averaged over the window. Time in which
   * the node or the database is the slow side does not count. A line of 256 kbit/s carries twice as much.
   */
  minClientBytesPerSecond: 16 * KiB,
  clientPaceWindowMs: 30_000,

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
  maxCommitMergeMs: 8_000,

  /** Sets `statement_timeout` of a large batch. Below `commitTimeoutMs`, so that its outcome is never unknown. */
  commitStatementTimeoutMs: 20_000,

  /** Bounds the wait for a short read. After this time, the database counts as down or frozen. */
  queryTimeoutMs: 10_000,

  /**
   * Set when a commit without an answer makes the node ask the server about it, how long the node waits for that answer,
   * and how much longer for the commit's own answer if the server knows nothing of it. Together they stay below 5 s.
   */
  suspectAfterMs: 2_500,
  suspectLookMs: 1_000,
  suspectGraceMs: 250,

  /** Bounds a commit's wait for the state row. Only another node's batch or a restore's last step locks the row. */
  commitLockTimeoutMs: 10_000,

  /** Bounds a restore's wait for the state row. A batch in flight ends within this time. */
  restoreLockTimeoutMs: 30_000,

  /**
   * Bounds how long a restore's transaction may be idle before PostgreSQL ends it. Between two statements, a restore
   * waits for its body, of which no byte may arrive for `bodyIdleTimeoutMs`, several times.
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

  /** Bounds `Idempotency-Key`. It has room for a UUID or ULID with a prefix. */
  maxIdempotencyKeyBytes: 255,

  /** Bounds `x-request-id`. The node replaces a longer or malformed one with a new id. */
  maxRequestIdBytes: 128,

  /** Set the default and maximum number of rows on one page of documents or audit entries. */
  defaultPageEntries: 100,
  maxPageEntries: 1_000,

  /**
   * Bounds the text of one page of audit entries, unless it has a single entry. An entry can have as many bytes as a
   * change of the whole state, so a number of entries does not bound memory.
   */
  maxPageBytes: 8 * MiB,

  /** Bounds what the node reads in one query together with its size. It reads a larger text after it has the memory. */
  smallTextBytes: 64 * KiB,

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

  /** Bounds each list of added, changed and removed names in a restore's answer. */
  maxPlanNames: 100,

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

  /** Sets `Retry-After` while the database is down. A node detects a recovery within 5 s, and usually sooner. */
  databaseRetrySeconds: 2,

  /** Bounds a rollback, which is immediate unless the connection is stuck. Closing the connection also rolls back. */
  rollbackTimeoutMs: 2_000,

  /** Bounds `LOOM_PG_STATE_KEY`, which every index entry contains in addition to a document's name. */
  maxStateKeyBytes: 128,

  /**
   * Set how often the node asks the server of a quiet stream whether it is still there, how long it waits for the answer,
   * and after how many failures in a row it ends the stream: about half a minute, which a busy server survives.
   */
  streamCheckMs: 10_000,
  streamLookMs: 5_000,
  maxServerMisses: 3,

  /** Bounds the hosts of `LOOM_PG_URL`, which share the time to connect. */
  maxDatabaseHosts: 8,

  /** Sets `Retry-After` when the share for streams is used up. Most reads of the state end within a second. */
  streamsRetrySeconds: 2,

  /** Bounds the name of a scratch state. Its stored key has one more byte, which separates it from state keys. */
  maxScratchKeyBytes: 127,

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

  /** Bounds the requests that wait on one connection before the node stops reading from it. */
  maxPipelinedRequests: 32,

  /**
   * Bounds the requests that wait on all connections, beyond `maxPipelinedRequests` on each. Node keeps about 2 KB for
   * one, and a single read can contain 2,600 of them. Connections with more waiting requests are then cut off.
   */
  maxWaitingRequests: 16_384,

  /** Bounds the headers of a request. Browsers and proxies together send about 50. */
  maxRequestHeaders: 200,

  /** Bounds the elements that the node reads of a header that is a list, such as `Accept`. Browsers send about 10. */
  maxHeaderElements: 64,

  /** Bounds the name of an audit action in a query. LOOM's own have at most 15. */
  maxActionCharacters: 128,

  /** Bounds the parameters of a query. A route supports at most six. */
  maxQueryParameters: 32,

  /** Bound the addresses that the node reads of `X-Forwarded-For`. An IPv6 address with zone and port has about 70. */
  maxForwardedAddresses: 32,
  maxAddressCharacters: 80,

  /** Bounds how long status and metrics wait for the database. They must also answer when it does not. */
  observeTimeoutMs: 1_000,

  /** Bounds how often metrics ask for the size of the database, because PostgreSQL then looks at each of its files. */
  sizesIntervalMs: 60_000,

  /** Bounds the counters of wrong tokens, which all addresses share, and thus the memory for them. */
  maxAddressBuckets: 4_096,

  /**
   * Bounds the time from the first byte of a request to the end of its headers. A slow sender occupies a socket. The
   * node checks in intervals.
   */
  headersTimeoutMs: 20_000,
  headersCheckMs: 2_000,

  /**
   * Bounds the time until the first byte of a connection. Longer than the 60 s after which common load balancers close
   * connections that they opened in advance, so that no request meets the end of its connection.
   */
  silentTimeoutMs: 65_000,

  /**
   * Bound the connections of clients, unless `LOOM_MAX_CONNECTIONS` is set: the limit of open files, without the reserve
   * for the pool, the log and probes, and at most the first number. Beyond it, the node closes the connection that has
   * been idle for the longest time. If all are in use, a few more can still send a probe.
   */
  maxConnections: 10_000,
  minConnections: 16,
  reservedFiles: 64,
  maxProbeConnections: 16,

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

  /** Bound what a client command keeps of an answer and of a refusal. A status has 300 bytes for each scratch state. */
  maxClientAnswerBytes: 64 * MiB,
  maxClientErrorBytes: 1 * MiB,

  /** Bounds a page of audit entries that a client command reads but does not keep. PostgreSQL limits a text to 1 GiB. */
  maxClientPageBytes: 1_024 * MiB,

  /** Bounds a report of a drill that the next drill recognizes and replaces. A report has some KiB. */
  maxDrillReportBytes: 1 * MiB,

  /** Detect a `.part` file of a killed process by its age. A running one touches its file every `partTouchMs`. */
  partStaleMs: 120_000,
  partTouchMs: 30_000,

  /** Ends a condition in the log after this time without a failed request. Clients retry sooner. */
  conditionQuietMs: 10_000,

  /** Bounds the conditions that the log keeps apart, and thus their memory. There are some ten kinds. */
  maxConditions: 100,

  /** Bounds the log lines that wait for standard output, some 10,000. The node drops further lines and counts them. */
  maxLogBufferBytes: 4 * MiB,

  /** Bounds the path of a request in the log. The longest path of a document has 1,550 characters. */
  maxLoggedPathCharacters: 2_048,

  /** Bounds one write of log lines, to the usual capacity of a pipe. */
  maxLogWriteBytes: 64 * KiB,

  /** Bound the growing pause before log lines that could not be written are tried again. */
  minLogRetryMs: 10,
  maxLogRetryMs: 1_000,

  /** Bounds the wait for log lines at exit. Standard output that stands still must not keep the process alive. */
  logFlushMs: 500,

  /**
   * Keeps idle connections open when the node closes: a request that is on its way is then answered instead of reset.
   * It takes a round trip.
   */
  idleLingerMs: 200,

  /** Bound the pauses of a closing node: for the answers of abandoned work, then for the last answers. */
  abandonedAnswerMs: 100,
  lastAnswersMs: 500,

  /** Bounds what the last answers add to the timeout of a closing node. Then it closes the connections. */
  lateAnswersMs: 700,

  /** Reserves this part of the timeout for each answer to a request that still waits at its end. */
  lastAnswerMs: 1,

  /** Bounds the wait for the parts of a closing node after its timeout, for example for a frozen database. */
  lastCloseMs: 250,

  /** Bounds the names or ids in the offline verifier's memory: some 20 MB. It reads larger files repeatedly. */
  verifyWindow: 50_000,
} as const;
