import { documentNameFault } from '../../domain/document.ts';
import { LoomError } from '../../errors.ts';
import { pointerToken } from '../../json/pointer.ts';
import { createJsonScanner, JsonTruncatedError } from '../../json/scanner.ts';
import type { JsonType, ObjectVisit, Visit } from '../../json/visit.ts';
import { limits } from '../../limits.ts';

/** What a backup holds in number, in the order in which it comes. Texts and bytes are as `CapturedValue` describes them. */
export type BackupItem =
  | { kind: 'document'; name: string; text: Buffer; canonicalBytes: number }
  | { kind: 'digest'; name: string; sha256: string }
  | { kind: 'entry'; text: Buffer };

/** What a backup holds once. Header and manifest are parsed but not judged: that is `checkBackup`'s part. */
export interface BackupFrame {
  /** All members but `state`, `document_sha256`, `audit_entries` and `manifest`. */
  header: Record<string, unknown>;
  manifest: unknown;
  hasState: boolean;
  hasDigests: boolean;
  hasAudit: boolean;
  auditEntries: number;
}

export interface Decoded {
  /** The members of the restore request beside `backup`. */
  request: Record<string, unknown>;
  /** Undefined when the request has no `backup`. */
  backup: BackupFrame | undefined;
}

/** Takes a text in chunks, and hands out what they complete; `Whole` is what stands in it once. */
export interface Decoder<Whole> {
  /** What has been read of it so far. */
  readonly whole: Whole;
  /** Takes the next bytes, cut anywhere, and answers what they completed. */
  write(chunk: Uint8Array): BackupItem[];
  /** The input has ended. Throws `backup_incomplete` when a value is still open. */
  end(): Whole;
}

/**
 * Decodes the body of a restore as it arrives: memory holds one document or entry at a time, members come in any order.
 * Throws what the scanner throws, `invalid_document_name`, and `backup_malformed` for a member of another shape.
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
      return backupVisit(decoded.backup, '/backup', emit);
    },
    onOther: (type) => {
      throw new LoomError('invalid_restore_request', `The body must be a JSON object, and it is ${aOrAn(type)}.`);
    },
  }));
}

/** As `createRestoreDecoder`, for a backup on its own: a file. A restore request around it is `backup_malformed`. */
export function createBackupDecoder(): Decoder<BackupFrame> {
  const frame = emptyFrame();
  return createDecoder(frame, (emit) => {
    const visit = backupVisit(frame, '', emit);
    return {
      ...visit,
      onMember: (name, offset) => {
        if (name !== 'backup') return visit.onMember(name, offset);
        throw malformed('This is a restore request: the backup is in its member "backup".', '/backup', offset);
      },
    };
  });
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
    end: () => {
      endScan(scanner);
      return whole;
    },
  };
}

const requestMembers = new Set([
  'confirm',
  'replace_state',
  'truncate_audit',
  'dry_run',
  'expect_revision',
  'accept_state_key',
  'accept_unverified',
  'into_scratch',
]);

/** Refused as soon as it is seen: what follows may be of any size. */
function assertRequestMember(name: string): void {
  if (requestMembers.has(name)) return;
  const isBackup = /^(loom_backup_version|backend|state|document_sha256|audit_entries|manifest)$/.test(name);
  throw new LoomError(
    'invalid_restore_request',
    isBackup
      ? 'The body is a backup on its own: wrap it as {"confirm":"restore","backup":…}.'
      : `A restore has no member ${JSON.stringify(name)}.`,
    { pointer: pointerToken(name) },
  );
}

function endScan(scanner: { end(): void; offset: number }): void {
  try {
    scanner.end();
  } catch (error) {
    if (!(error instanceof JsonTruncatedError) || scanner.offset === 0) throw error;
    throw new LoomError('backup_incomplete', `The backup ends too early, after ${scanner.offset} bytes.`, {
      ...error.place,
      cause: error,
    });
  }
}

/** How to scan one backup that stands at `pointer`. */
function backupVisit(frame: BackupFrame, pointer: string, emit: (item: BackupItem) => void): ObjectVisit {
  let members = 0;
  return {
    kind: 'object',
    uniqueNames: 'check',
    onMember: (name, offset) => {
      members += 1;
      const at = `${pointer}${pointerToken(name)}`;
      if (members > limits.maxBackupHeaderMembers)
        throw malformed(`The backup has more than ${limits.maxBackupHeaderMembers} members.`, at, offset);
      switch (name) {
        case 'state':
          frame.hasState = true;
          return stateVisit(at, emit, () => {
            frame.hasState = false;
          });
        case 'document_sha256':
          frame.hasDigests = true;
          return digestsVisit(at, emit);
        case 'audit_entries':
          frame.hasAudit = true;
          return entriesVisit(at, frame, emit);
        case 'manifest':
          return captureInto(at, (value) => {
            frame.manifest = value;
          });
        default:
          return captureMember(frame.header, name, at);
      }
    },
    onOther: (type, offset) => {
      throw malformed(`The backup must be a JSON object, and it is ${aOrAn(type)}.`, pointer, offset);
    },
  };
}

function stateVisit(pointer: string, emit: (item: BackupItem) => void, onNull: () => void): Visit {
  return {
    kind: 'object',
    uniqueNames: 'caller',
    onMember: (name, offset) => {
      const fault = documentNameFault(name);
      if (fault !== undefined) {
        const place = { pointer: `${pointer}${pointerToken(name)}`, offset };
        throw new LoomError('invalid_document_name', `A document name ${fault}.`, place);
      }
      return {
        kind: 'capture',
        maxBytes: limits.maxConfigurableDocumentBytes,
        maxDepth: limits.maxDocumentDepth,
        place: { document: name, pointer: `${pointer}${pointerToken(name)}` },
        onValue: ({ text, canonicalBytes }) => emit({ kind: 'document', name, text, canonicalBytes }),
      };
    },
    onOther: (type, offset) => nullOrMalformed('state', 'an object', type, pointer, offset, onNull),
  };
}

function digestsVisit(pointer: string, emit: (item: BackupItem) => void): Visit {
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
        throw malformed('A digest must be 64 lower-case hexadecimal digits under the name of a document.', at, offset);
      }),
    onOther: (type, offset) => {
      throw malformed(`document_sha256 must be an object, and it is ${aOrAn(type)}.`, pointer, offset);
    },
  };
}

function entriesVisit(pointer: string, frame: BackupFrame, emit: (item: BackupItem) => void): Visit {
  return {
    kind: 'array',
    onElement: (index) => ({
      kind: 'capture',
      maxBytes: limits.maxAuditEntryBytes,
      maxDepth: limits.maxAuditEntryDepth,
      place: { pointer: `${pointer}/${index}` },
      onValue: ({ text, type, offset }) => {
        if (type !== 'object') {
          const detail = `An audit entry must be an object, and this is ${aOrAn(type)}.`;
          throw malformed(detail, `${pointer}/${index}`, offset);
        }
        frame.auditEntries += 1;
        emit({ kind: 'entry', text });
      },
    }),
    onOther: (type, offset) =>
      nullOrMalformed('audit_entries', 'an array', type, pointer, offset, () => {
        frame.hasAudit = false;
      }),
  };
}

/** `null` stands for "none": a tool that knows the member but has nothing to say writes it so. */
function nullOrMalformed(
  member: string,
  expected: string,
  type: JsonType,
  pointer: string,
  offset: number,
  onNull: () => void,
): Visit {
  if (type !== 'null') throw malformed(`${member} must be ${expected}, and it is ${aOrAn(type)}.`, pointer, offset);
  onNull();
  return { kind: 'skip', maxDepth: 1 };
}

function captureMember(target: Record<string, unknown>, name: string, pointer: string): Visit {
  return captureInto(pointer, (value) => {
    // Not an assignment: `__proto__` must become a member like any other.
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

function aOrAn(type: JsonType): string {
  return type === 'null' ? 'null' : `${/^[ao]/.test(type) ? 'an' : 'a'} ${type}`;
}
