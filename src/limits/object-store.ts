const KiB = 1024;
const MiB = 1024 * KiB;

/** Bounds the work with a backup store, and what LOOM reads from it before it trusts it. */
export const objectStoreLimits = {
  /**
   * Bounds the name of an object. A file name has at most 255 bytes on common file systems, and a temporary file adds
   * 23 to the name of its object.
   */
  maxObjectNameCharacters: 220,

  /** Bounds the state key in the name of a stored backup. A longer one is cut, and made unique by a digest. */
  maxStoredKeyCharacters: 100,

  /** Bounds the manifest of a stored backup. It has about 1 KiB, and 63 bytes for each recipient. */
  maxStoredManifestBytes: 256 * KiB,

  /** Bounds the object that says which store this is. It has about 80 bytes. */
  maxStoreMarkerBytes: 4 * KiB,

  /** Bounds the recipients of an encrypted backup. `age` writes about 100 bytes for each into the header. */
  maxRecipients: 100,

  /** Bounds a file of identities that LOOM reads. An identity has 75 characters. */
  maxIdentityFileBytes: 64 * KiB,

  /** Bounds the header of an encrypted backup: `maxRecipients` of the largest kind have about 180 KiB. */
  maxAgeHeaderBytes: 512 * KiB,

  /**
   * Bounds one call of the file system. A network file system whose server is gone blocks calls forever. Each blocked
   * call occupies one of four threads, which the node also needs for other work.
   */
  fileCallTimeoutMs: 60_000,

  /** Sets the piece in which a stored file is read. */
  fileReadBytes: 256 * KiB,

  /** Bounds the wait for a connection to S3. A healthy service accepts one within a second. */
  s3ConnectTimeoutMs: 10_000,

  /** Bounds how long a request to S3, or the answer, may stand still. Completing a large upload takes some seconds. */
  s3IdleTimeoutMs: 30_000,

  /** Bounds one request with its body, so that a slow service fails: one part, at 28 KiB a second. */
  s3RequestTimeoutMs: 300_000,

  /** Bounds the rate at which an object arrives, after `s3IdleTimeoutMs` of waiting. A slower proof never ends. */
  minS3BytesPerSecond: 16 * KiB,

  /** Bounds the attempts at one request. The run itself has further attempts, with longer pauses. */
  maxS3Attempts: 3,

  /** Bounds the attempt to remove an unfinished upload. The sweep removes what is left. */
  s3CleanupTimeoutMs: 30_000,

  /**
   * Set the size of a part of an upload, and how many are in flight. S3 allows 10,000 parts, so an object has at most
   * 78 GiB. A put takes about four times this memory: two parts in flight, and the next one while it is made.
   */
  s3PartBytes: 8 * MiB,
  maxS3PartsInFlight: 2,

  /** Bounds what an error repeats of the message of an S3 service. */
  maxS3MessageCharacters: 300,
} as const;
