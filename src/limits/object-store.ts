const KiB = 1024;

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
} as const;
