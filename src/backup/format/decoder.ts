import { documentNameFault } from '../../domain/document.ts';
import { isRestoreMember } from '../../domain/request.ts';
import { LoomError, shortText } from '../../errors.ts';
import { pointerToken } from '../../json/pointer.ts';
import { JsonTruncatedError } from '../../json/scanner/fault.ts';
import { createJsonScanner } from '../../json/scanner/scanner.ts';
import type { JsonType, ObjectVisit, Visit } from '../../json/visit.ts';
import { limits } from '../../limits.ts';

// src/backup/ implements the backup format: its bytes (format/), its rules (check/) and backups in files (offline/).
// offline/ may import check/ and format/; check/ may import format/.
//
// src/backup/format/ encodes and decodes the bytes of a backup, and computes its digests. It is pure: it may import
// domain, json, errors and limits. It must not know databases, HTTP, files, or the rules for a valid backup.
// docs/backup-format.md is the specification.

/**
 * Contains one item of a backup. `CapturedValue` describes `text`, `canonicalBytes`, `canonicalFrom` and `members`. An
 * entry with `canonicalFrom` begins with its hash.
 */
export type BackupItem =
  | { kind: 'document'; name: string; text: Buffer; canonicalBytes: number; canonicalFrom: number | undefined }
  | { kind: 'digest'; name: string; sha256: string }
  | { kind: 'entry'; text: Buffer; canonicalFrom: number | undefined; members: readonly number[] | undefined };

export type EntryItem = Extract<BackupItem, { kind: 'entry' }>;

/** Contains the rest of a backup. Header and manifest are parsed; `checkFrame` checks them. */
export interface BackupFrame {
  /** All members except `state`, `document_sha256`, `audit_entries` and `manifest`. */
  header: Record<string, unknown>;
  manifest: unknown;
  hasState: boolean;
  hasDigests: boolean;
  hasAudit: boolean;
  auditEntries: number;
}

export interface Decoded {
  /** The members of the restore request other than `backup`. */
  request: Record<string, unknown>;
  /** Undefined when the request has no `backup`. */
  backup: BackupFrame | undefined;
}

/** Decodes a text in chunks. `Whole` is the type of the result apart from the items. */
export interface Decoder<Whole> {
  /** Filled while the text is read. */
  readonly whole: Whole;
  /** Takes the next bytes, split anywhere. Returns the items that they complete. Texts may be parts of the chunk. */
  write(chunk: Uint8Array): BackupItem[];
  /** Returns the approximate memory in use, in bytes, without the items that `write` has returned. */
  heldBytes(): number;
  /** Ends the input. Throws `backup_incomplete` when a value is still open. */
  end(): Whole;
}

/**
 * Decodes the body of a restore in chunks, with its members in any order. Memory holds one document or entry at a time.
 * Throws the scanner's errors, `invalid_document_name`, and `backup_malformed` for a member of the wrong type.
 */
export function createRestoreDecoder(): Decoder<Decoded> {
  const decoded: Decoded = { request: {}, backup: undefined };
  return createDecoder(decoded, (emit) => ({
    kind: 'object',
    uniqueNames: 'check',
    onMember: (name) => {
      if (name !== 'backup') {
        assertRequestMember(name);
        return captureMember(decoded.request, name, pointerToken(name));
      }
      decoded.backup = emptyFrame();
      return backupVisit(decoded.backup, '/backup', { emit, borrows: 'chunk' });
    },
    onOther: (type) => {
      throw new LoomError('invalid_restore_request', `The body is ${withArticle(type)}; expected a JSON object.`);
    },
  }));
}

/** Decodes a backup from a file. Throws `backup_malformed` if the file is a restore request. */
export function createBackupDecoder(): Decoder<BackupFrame> {
  const frame = emptyFrame();
  return createDecoder(frame, (emit) => fileVisit(frame, { emit, borrows: 'chunk' }));
}

/** Passes on each item as soon as it is complete. */
export interface BackupReader {
  write(chunk: Uint8Array): void;
  /** Ends the input, as in `Decoder`. */
  end(): BackupFrame;
}

/** Reads a backup from a file as `createBackupDecoder` does, without a copy: items are valid only during `onItem`. */
export function createBackupReader(onItem: (item: BackupItem) => void): BackupReader {
  const frame = emptyFrame();
  const scanner = createJsonScanner(fileVisit(frame, { emit: onItem, borrows: 'call' }));
  return {
    write: scanner.write,
    end: () => {
      endScan(scanner);
      return frame;
    },
  };
}

/** Receives the items, see `CaptureVisit.borrows`. */
interface Receiver {
  emit(item: BackupItem): void;
  borrows: 'call' | 'chunk';
}

function fileVisit(frame: BackupFrame, receiver: Receiver): ObjectVisit {
  const visit = backupVisit(frame, '', receiver);
  return {
    ...visit,
    onMember: (name, offset) => {
      if (name !== 'backup') return visit.onMember(name, offset);
      throw malformed(
        'The file is a restore request: its member "backup" contains the backup. Pass the backup itself.',
        '/backup',
        offset,
      );
    },
  };
}

function emptyFrame(): BackupFrame {
  return { header: {}, manifest: undefined, hasState: false, hasDigests: false, hasAudit: false, auditEntries: 0 };
}

function createDecoder<Whole>(whole: Whole, rootOf: (emit: (item: BackupItem) => void) => Visit): Decoder<Whole> {
  let items: BackupItem[] = [];
  const scanner = createJsonScanner(
    rootOf((item) => {
      items.push(item);
    }),
  );
  return {
    whole,
    write: (chunk) => {
      items = [];
      scanner.write(chunk);
      return items;
    },
    heldBytes: scanner.heldBytes,
    end: () => {
      endScan(scanner);
      return whole;
    },
  };
}

/** Refuses an unknown member before its value, which may have any size. */
function assertRequestMember(name: string): void {
  if (isRestoreMember(name)) return;
  const isBackup = /^(loom_backup_version|backend|state|document_sha256|audit_entries|manifest)$/.test(name);
  throw new LoomError(
    'invalid_restore_request',
    isBackup
      ? 'The body is a backup instead of a restore request: wrap it as {"confirm":"restore","backup":…}.'
      : `${JSON.stringify(shortText(name))} is not a known member of a restore request.`,
    { pointer: pointerToken(name) },
  );
}

function endScan(scanner: { end(): void; offset(): number }): void {
  try {
    scanner.end();
  } catch (error) {
    if (!(error instanceof JsonTruncatedError) || scanner.offset() === 0) throw error;
    throw new LoomError(
      'backup_incomplete',
      `The backup ends early, after ${scanner.offset()} bytes. Use a complete copy.`,
      { ...error.place, cause: error },
    );
  }
}

/** Creates the visit of one backup. `pointer` leads to it. */
function backupVisit(frame: BackupFrame, pointer: string, receiver: Receiver): ObjectVisit {
  let members = 0;
  return {
    kind: 'object',
    uniqueNames: 'check',
    onMember: (name, offset) => {
      members += 1;
      const at = `${pointer}${pointerToken(name)}`;
      if (members > limits.maxBackupHeaderMembers)
        throw malformed(`The backup has more than ${limits.maxBackupHeaderMembers} members, the maximum.`, at, offset);
      switch (name) {
        case 'state':
          frame.hasState = true;
          return stateVisit(at, receiver, () => {
            frame.hasState = false;
          });
        case 'document_sha256':
          frame.hasDigests = true;
          return digestsVisit(at, receiver);
        case 'audit_entries':
          frame.hasAudit = true;
          return entriesVisit(at, frame, receiver);
        case 'manifest':
          return captureInto(at, (value) => {
            frame.manifest = value;
          });
        default:
          return captureMember(frame.header, name, at);
      }
    },
    onOther: (type, offset) => {
      throw malformed(`The backup is ${withArticle(type)}; expected a JSON object.`, pointer, offset);
    },
  };
}

function stateVisit(pointer: string, { emit, borrows }: Receiver, onNull: () => void): Visit {
  return {
    kind: 'object',
    uniqueNames: 'caller',
    onMember: (name, offset) => {
      const fault = documentNameFault(name);
      if (fault !== undefined) {
        const place = { pointer: `${pointer}${pointerToken(name)}`, offset };
        throw new LoomError('invalid_document_name', `The document name ${fault}.`, place);
      }
      return {
        kind: 'capture',
        maxBytes: limits.maxConfigurableDocumentBytes,
        maxDepth: limits.maxDocumentDepth,
        canonical: 'whole',
        borrows,
        place: { document: name, pointer: `${pointer}${pointerToken(name)}` },
        onValue: ({ text, canonicalBytes, canonicalFrom }) =>
          emit({ kind: 'document', name, text, canonicalBytes, canonicalFrom }),
      };
    },
    onOther: (type, offset) => nullOrMalformed('state', 'an object', type, pointer, offset, onNull),
  };
}

function digestsVisit(pointer: string, { emit }: Receiver): Visit {
  return {
    kind: 'object',
    uniqueNames: 'caller',
    onMember: (name) =>
      captureInto(`${pointer}${pointerToken(name)}`, (value, offset) => {
        const fault = documentNameFault(name);
        if (fault === undefined && typeof value === 'string' && /^[0-9a-f]{64}$/.test(value)) {
          emit({ kind: 'digest', name, sha256: value });
          return;
        }
        const at = `${pointer}${pointerToken(name)}`;
        throw malformed(
          'A member of "document_sha256" is not a document name with 64 lower-case hex digits.',
          at,
          offset,
        );
      }),
    onOther: (type, offset) => {
      throw malformed(`"document_sha256" is ${withArticle(type)}; expected an object.`, pointer, offset);
    },
  };
}

function entriesVisit(pointer: string, frame: BackupFrame, { emit, borrows }: Receiver): Visit {
  // One visit serves all entries: one of its own for each would be garbage.
  const entry: Visit = {
    kind: 'capture',
    maxBytes: limits.maxReadableEntryBytes,
    maxDepth: limits.maxReadableEntryDepth,
    canonical: { after: 'hash' },
    borrows,
    onValue: ({ text, type, offset, canonicalFrom, members }) => {
      const index = frame.auditEntries;
      if (type !== 'object') {
        const detail = `Audit entry ${index + 1} of the backup is ${withArticle(type)}; expected an object.`;
        throw malformed(detail, `${pointer}/${index}`, offset);
      }
      frame.auditEntries += 1;
      emit({ kind: 'entry', text, canonicalFrom, members });
    },
  };
  return {
    kind: 'array',
    onElement: () => entry,
    onOther: (type, offset) =>
      nullOrMalformed('audit_entries', 'an array', type, pointer, offset, () => {
        frame.hasAudit = false;
      }),
  };
}

/** Treats `null` as absent, because some tools write every member that they know. */
function nullOrMalformed(
  member: string,
  expected: string,
  type: JsonType,
  pointer: string,
  offset: number,
  onNull: () => void,
): Visit {
  if (type !== 'null') throw malformed(`"${member}" is ${withArticle(type)}; expected ${expected}.`, pointer, offset);
  onNull();
  return { kind: 'skip', maxDepth: 1 };
}

function captureMember(target: Record<string, unknown>, name: string, pointer: string): Visit {
  return captureInto(pointer, (value) => {
    // An assignment to `__proto__` would set the prototype instead of a member.
    Object.defineProperty(target, name, { value, enumerable: true, configurable: true, writable: true });
  });
}

function captureInto(pointer: string, take: (value: unknown, offset: number) => void): Visit {
  return {
    kind: 'capture',
    maxBytes: limits.maxBackupMemberBytes,
    maxDepth: limits.maxDocumentDepth,
    place: { pointer },
    onValue: ({ text, offset }) => take(JSON.parse(text.toString('utf8')), offset),
  };
}

function malformed(detail: string, pointer: string, offset: number): LoomError {
  return new LoomError('backup_malformed', detail, { pointer, offset });
}

function withArticle(type: JsonType): string {
  return type === 'null' ? 'null' : `${/^[ao]/.test(type) ? 'an' : 'a'} ${type}`;
}
