const KiB = 1024;
const MiB = 1024 * KiB;

/** Bounds requests, answers and connections. */
export const httpLimits = {
  /**
   * Bound the memory of a node for the requests in flight on all connections. With the node's own 60 MiB and the
   * streams, they fit into `--max-old-space-size=256` and a container of 512 MiB. The first covers each body from its
   * first byte to its answer, so it also covers the queue of commits. The second covers answers, pages and lines of
   * streams.
   */
  maxBodiesBytes: 68 * MiB,
  maxAnswersBytes: 32 * MiB,

  /**
   * Convert a text to memory. A body that is being read exists as strings of one or two bytes for each character. A
   * commit exists as strings and as the text for PostgreSQL. An answer exists as PostgreSQL's bytes, as a string, and
   * as the bytes for the socket.
   */
  bodyMemoryFactor: 1.5,
  commitMemoryFactor: 2,
  answerMemoryFactor: 3,

  /** Bounds the buffers of a download of a stored backup: pieces of `fileReadBytes` on their way to the socket. */
  storedDownloadBytes: 1.5 * MiB,

  /** Bounds the buffers of an open body: of the socket, the decoder and the scanner. A shorter body needs less. */
  openBodyBytes: 128 * KiB,

  /** Protects a body or answer from losing its memory to another one during this time. A fast client needs no more. */
  minMemoryHoldMs: 1_000,

  /** Protects a reader that takes so much from losing its memory to another one. It frees 8 MiB within 8 s. */
  fastReaderBytesPerSecond: 1 * MiB,

  /** Bounds how long a read waits for memory for a large document, page or entry. Other reads free theirs in less. */
  memoryWaitMs: 5_000,

  /**
   * Refuses a client that sends a body or takes an answer more slowly than this, averaged over the window. Time in
   * which the node or the database is the slow side does not count. A line of 256 kbit/s carries twice as much.
   */
  minClientBytesPerSecond: 16 * KiB,
  clientPaceWindowMs: 30_000,

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

  /** Bounds a name in a path. No request head is longer, so the route itself reports a name that is too long. */
  maxRouteParameterCharacters: 16 * KiB,

  /** Bound the wrong tokens from one address in the window before 429. The correct token is always accepted. */
  maxWrongTokens: 20,
  wrongTokensWindowSeconds: 60,

  /** Refuses short tokens, which can be guessed. */
  minTokenCharacters: 16,

  /** Bounds a token. Node refuses a request whose headers have more than 16 KiB in total. */
  maxTokenCharacters: 1_024,

  /** Aborts a stream whose reader takes no bytes for this long. A stream occupies a snapshot and a connection. */
  readerIdleTimeoutMs: 60_000,

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
  maxWaitingRequests: 8_192,

  /** Bounds the headers of a request. Browsers and proxies together send about 50. */
  maxRequestHeaders: 200,

  /** Bounds the elements that the node reads of a header that is a list, such as `Accept`. Browsers send about 10. */
  maxHeaderElements: 64,

  /** Bounds the name in `x-loom-actor`, which each audit entry of the request contains. */
  maxActorCharacters: 128,

  /** Bounds the name of an audit action in a query. LOOM's own have at most 15. */
  maxActionCharacters: 128,

  /** Bounds the wait for a run that a request prefers. Proxies close a connection that is silent for longer. */
  maxPreferredWaitSeconds: 600,

  /** Bounds the body that deletes a stored backup: one short member. */
  maxDeleteBodyBytes: 1_024,

  /** Bounds the parameters of a query. A route supports at most eight. */
  maxQueryParameters: 32,

  /** Bound the addresses that the node reads of `X-Forwarded-For`. An IPv6 address with zone and port has about 70. */
  maxForwardedAddresses: 32,
  maxAddressCharacters: 80,

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
   * Bound the connections of clients, unless `LOOM_MAX_CONNECTIONS` is set: the limit of open files, without the
   * reserve for the pool, the log and probes, and at most the first number. Beyond it, the node closes the connection
   * that has been idle for the longest time. If all are in use, a few more can still send a probe.
   */
  maxConnections: 10_000,
  minConnections: 16,
  reservedFiles: 64,
  maxProbeConnections: 16,

  /** Keeps an idle connection open longer than the 60 s of common load balancers, so that they close it first. */
  keepAliveTimeoutMs: 72_000,

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
} as const;
