const KiB = 1024;
const MiB = 1024 * KiB;

/** Bounds the process around them: client commands, files and the log. */
export const programLimits = {
  /** Bounds a client command's wait for a connection. After this time, the node counts as unreachable. */
  clientConnectTimeoutMs: 10_000,

  /** Bounds a client command's wait for a short operation: the status, or dropping a scratch state. */
  clientAnswerTimeoutMs: 60_000,

  /** Aborts an answer to a client command when no byte arrives for this long. A large state may need this time. */
  clientIdleTimeoutMs: 600_000,

  /** Bound what a client command keeps of an answer and of a refusal. A status has 300 bytes for each scratch state. */
  maxClientAnswerBytes: 64 * MiB,
  maxClientErrorBytes: 1 * MiB,

  /**
   * Bounds a page of audit entries that a client command reads but does not keep. PostgreSQL limits a text to 1 GiB.
   */
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

  /**
   * Gathers log lines for one write. A write of its own for each request would cost the node a twentieth of a commit.
   * A crash can lose the lines of this time.
   */
  logGatherMs: 10,

  /** Bounds one write of log lines, to the usual capacity of a pipe. */
  maxLogWriteBytes: 64 * KiB,

  /** Bound the growing pause before log lines that could not be written are tried again. */
  minLogRetryMs: 10,
  maxLogRetryMs: 1_000,

  /** Bounds the wait for log lines at exit. Standard output that stands still must not keep the process alive. */
  logFlushMs: 500,
} as const;
