// src/limits/ has the bounds by topic. `src/limits.ts` lists them together. It imports nothing, so any room may import
// it.

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

/** Bounds the data: documents, audit entries, backups and their JSON. */
export const dataLimits = {
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

  /**
   * Sets the size of an entry with changes of a restore or undo: few entries, and little memory for each. The entry
   * also has room for the document that begins before this size, which is the largest one at most.
   */
  recordedChangesBytes: 4 * MiB,

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

  /** Bounds `Idempotency-Key`. It has room for a UUID or ULID with a prefix. */
  maxIdempotencyKeyBytes: 255,

  /** Bounds `LOOM_PG_STATE_KEY`, which every index entry contains in addition to a document's name. */
  maxStateKeyBytes: 128,

  /** Bounds the name of a scratch state. Its stored key has one more byte, which separates it from state keys. */
  maxScratchKeyBytes: 127,

  /** Bounds each list of added, changed and removed names in a restore's answer. */
  maxPlanNames: 100,

  /**
   * Bounds the elements of `documents` in a restore request, which the audit entry of the restore repeats. As one
   * member of the request, all of them together also have at most `maxBackupMemberBytes`.
   */
  maxSelectedDocuments: 1_000,

  /** Bounds the names or ids in the offline verifier's memory: some 20 MB. It reads larger files repeatedly. */
  verifyWindow: 50_000,

  /** Bounds the values that the offline verifier holds to compute merges. Their memory is part of its 64 MiB. */
  maxFoldedValueBytes: 24 * MiB,

  /** Bounds the mismatches that a verification names. More are only counted: nobody reads them one by one. */
  maxNamedMismatches: 1000,

  /** Bounds what a mismatch shows of a number that an entry claims. A number of changes has fewer digits. */
  maxNamedClaimBytes: 64,
} as const;
