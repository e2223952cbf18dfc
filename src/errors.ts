import { limits } from './limits.ts';

/**
 * Maps each error code of LOOM to its HTTP status and title. `docs/errors.md` explains each code, and a test compares
 * both. A code is part of the API and never changes its meaning.
 */
const catalogue = {
  // The request
  malformed_request: { status: 400, title: 'Request is malformed' },
  invalid_json: { status: 400, title: 'Body is not valid JSON' },
  invalid_parameter: { status: 400, title: 'Query parameter or header is not valid' },
  token_in_query: { status: 400, title: 'Token found in the URL' },
  unauthenticated: { status: 401, title: 'Token is missing' },
  forbidden: { status: 403, title: 'Token does not grant access to this route' },
  not_found: { status: 404, title: 'No such route' },
  document_not_found: { status: 404, title: 'Document not found' },
  method_not_allowed: { status: 405, title: 'Method is not allowed on this route' },
  request_timeout: { status: 408, title: 'Request timed out' },
  precondition_failed: { status: 412, title: 'Precondition failed' },
  body_too_large: { status: 413, title: 'Body is too large' },
  document_too_large: { status: 413, title: 'Document is too large' },
  unsupported_media_type: { status: 415, title: 'Content type or encoding is not supported' },
  expectation_failed: { status: 417, title: 'Expectation is not supported' },
  headers_too_large: { status: 431, title: 'Request head is too large' },
  client_gone: { status: 499, title: 'Client disconnected' },
  too_many_attempts: { status: 429, title: 'Too many wrong tokens' },

  // The JSON in the body
  invalid_utf8: { status: 422, title: 'Text is not valid UTF-8' },
  invalid_number: { status: 422, title: 'Number cannot be stored exactly' },
  invalid_string: { status: 422, title: 'String cannot be stored' },
  invalid_document_name: { status: 422, title: 'Document name is not valid' },
  duplicate_member: { status: 422, title: 'JSON object has a duplicate member' },
  nested_too_deeply: { status: 422, title: 'JSON value is nested too deeply' },
  state_not_object: { status: 422, title: 'State is not a JSON object' },
  too_many_changes: { status: 422, title: 'Commit changes too many documents' },
  commit_too_costly: { status: 422, title: 'Commit would take too long' },
  idempotency_key_outdated: { status: 409, title: 'Idempotency key was used before a restore' },
  idempotency_key_reused: { status: 422, title: 'Idempotency key was used for a different change' },

  // Backup and restore
  confirm_missing: { status: 400, title: 'Confirmation is missing' },
  invalid_restore_request: { status: 400, title: 'Restore request is not valid' },
  backup_empty: { status: 400, title: 'Backup has neither state nor audit entries' },
  backup_incomplete: { status: 422, title: 'Backup is incomplete' },
  backup_malformed: { status: 422, title: 'Backup is malformed' },
  backup_unverified: { status: 422, title: 'Backup has no manifest' },
  backup_digest_mismatch: { status: 422, title: 'A digest in the backup does not match' },
  backup_count_mismatch: { status: 422, title: 'A count in the backup does not match' },
  backup_chain_broken: { status: 422, title: 'Audit chain in the backup is broken' },
  backup_duplicate_document: { status: 422, title: 'Backup has a duplicate document' },
  backup_version_unknown: { status: 409, title: 'Backup version is unknown' },
  backup_schema_newer: { status: 409, title: 'Backup schema is newer than this node' },
  state_key_mismatch: { status: 409, title: 'Backup was made for another state key' },
  revision_mismatch: { status: 409, title: 'Live revision does not match' },
  restore_in_progress: { status: 409, title: 'Another restore, undo or reindex of this state is in progress' },
  audit_entry_too_large: { status: 422, title: 'Audit entry is too large' },
  scratch_exists: { status: 409, title: 'State with this key already exists' },
  scratch_not_found: { status: 404, title: 'Scratch state not found' },
  invalid_undo_request: { status: 400, title: 'Undo request is not valid' },
  nothing_to_undo: { status: 409, title: 'Nothing to undo' },
  undo_record_damaged: { status: 500, title: 'Undo record does not match the audit trail' },
  audit_history_lost: { status: 409, title: 'Audit trail lacks entries of the earlier backup' },
  audit_history_unproven: { status: 409, title: 'Backups do not show whether audit entries were lost' },

  // Stored backups
  store_not_configured: { status: 409, title: 'No backup store is configured' },
  store_unreachable: { status: 502, title: 'Backup store could not be reached' },
  store_refused: { status: 502, title: 'Backup store refused the request' },
  store_full: { status: 507, title: 'Backup store is full' },
  store_failed: { status: 502, title: 'Backup store failed' },
  store_shared: { status: 409, title: 'Another database uses the backup store' },
  stored_backup_not_found: { status: 404, title: 'Stored backup is not in the catalogue' },
  stored_backup_missing: { status: 410, title: 'Store no longer has the backup' },
  stored_backup_damaged: { status: 422, title: 'Stored backup differs from the catalogue' },
  stored_backup_kept: { status: 409, title: 'Stored backup is still needed' },
  invalid_delete_request: { status: 400, title: 'Delete request is not valid' },
  stored_manifest_invalid: { status: 422, title: 'Manifest of a stored backup is not valid' },
  proof_mismatch: { status: 422, title: 'Restored state differs from the backup' },
  identity_missing: { status: 409, title: 'Key of the encrypted backup is missing' },
  run_not_found: { status: 404, title: 'Run not found' },
  run_lost: { status: 409, title: 'Another node has taken over the run' },
  backup_running: { status: 409, title: 'Node is already running a backup or drill' },

  // The service
  starting: { status: 503, title: 'Node is starting' },
  draining: { status: 503, title: 'Node is shutting down' },
  database_unavailable: { status: 503, title: 'Database is not available' },
  schema_behind: { status: 503, title: 'Database needs migrations' },
  schema_ahead: { status: 503, title: 'Database schema is newer than this node' },
  node_busy: { status: 503, title: 'Node is at the limit of its memory or connections' },
  queue_full: { status: 503, title: 'Too many commits are waiting' },
  streams_busy: { status: 503, title: 'Too many streams are open' },
  state_busy: { status: 503, title: 'State is locked by another transaction' },
  commit_outcome_unknown: { status: 503, title: 'Outcome of the commit is unknown' },
  migration_invalid: { status: 500, title: 'Migrations do not match the database' },
  state_inconsistent: { status: 500, title: 'Documents do not match the state row' },
  audit_chain_broken: { status: 500, title: 'Audit chain in the database is broken' },
  internal: { status: 500, title: 'Internal error' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ErrorCode = keyof typeof catalogue;

/** Locates the fault in the input. Every member is optional and safe to show. */
export interface ErrorPlace {
  /** JSON pointer into the document or body (RFC 6901). */
  pointer?: string;
  /** Byte offset in the decompressed body, from 0. */
  offset?: number;
  document?: string;
  /** Seq of the audit entry. */
  seq?: number;
}

export interface LoomErrorOptions extends ErrorPlace {
  cause?: unknown;
  /** Sent as `Retry-After`. */
  retryAfterSeconds?: number;
  /** For `restore_in_progress`: when the other restore began, RFC 3339. */
  since?: string;
  /** For `precondition_failed`: the current entity tag of the target; null when the target does not exist. */
  currentEtag?: string | null;
}

/** Reports an expected failure to the client: `code` is for programs, `message` is for people. */
export class LoomError extends Error {
  readonly code: ErrorCode;
  readonly place: ErrorPlace;
  readonly retryAfterSeconds: number | undefined;
  readonly currentEtag: string | null | undefined;
  readonly since: string | undefined;

  constructor(code: ErrorCode, message: string, options: LoomErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'LoomError';
    this.code = code;
    this.place = pickPlace(options);
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.currentEtag = options.currentEtag;
    this.since = options.since;
  }

  get status(): number {
    return catalogue[this.code].status;
  }

  get title(): string {
    return catalogue[this.code].title;
  }
}

/** Lists the catalogue for the tests that compare it with the documentation. */
export function errorCodes(): { code: ErrorCode; status: number; title: string }[] {
  return Object.entries(catalogue).map(([code, entry]) => ({ code: code as ErrorCode, ...entry }));
}

/** Returns the code of an error of Node.js or LOOM, such as `ENOENT`. */
export function codeOf(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}

export function isLoomError(error: unknown): error is LoomError {
  return error instanceof LoomError;
}

/** Truncates a pointer or name that is too long for an error, and marks it with an ellipsis. */
export function shortText(text: string): string {
  if (text.length <= limits.maxPointerCharacters) return text;
  const cut = text.slice(0, limits.maxPointerCharacters);
  return `${cut.replace(/[\ud800-\udbff]$/, '')}…`;
}

function pickPlace(options: LoomErrorOptions): ErrorPlace {
  const place: ErrorPlace = {};
  if (options.pointer !== undefined) place.pointer = shortText(options.pointer);
  if (options.offset !== undefined) place.offset = options.offset;
  if (options.document !== undefined) place.document = shortText(options.document);
  if (options.seq !== undefined) place.seq = options.seq;
  return place;
}
