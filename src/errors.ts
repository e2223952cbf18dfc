/**
 * The closed catalogue of what LOOM refuses or fails at. One table from code to HTTP status and title; `docs/errors.md`
 * explains each code, and a test holds both together. A code is part of the API: it never changes its meaning.
 */
const catalogue = {
  // The request
  malformed_request: { status: 400, title: 'The request cannot be understood' },
  invalid_json: { status: 400, title: 'The body is not JSON' },
  invalid_parameter: { status: 400, title: 'A query parameter or header is not valid' },
  token_in_query: { status: 400, title: 'A token does not belong in a URL' },
  unauthenticated: { status: 401, title: 'A token is required' },
  forbidden: { status: 403, title: 'The token does not open this route' },
  not_found: { status: 404, title: 'There is nothing here' },
  document_not_found: { status: 404, title: 'There is no document of this name' },
  method_not_allowed: { status: 405, title: 'This route does not know the method' },
  request_timeout: { status: 408, title: 'The request did not arrive in time' },
  precondition_failed: { status: 412, title: 'The precondition does not hold' },
  body_too_large: { status: 413, title: 'The body is too large' },
  document_too_large: { status: 413, title: 'The document is too large' },
  unsupported_media_type: { status: 415, title: 'The content type or encoding is not supported' },
  headers_too_large: { status: 431, title: 'The request head is too large' },
  client_gone: { status: 499, title: 'The client went away' },
  too_many_attempts: { status: 429, title: 'Too many wrong tokens' },

  // The JSON in it
  invalid_utf8: { status: 422, title: 'A text is not valid UTF-8' },
  invalid_number: { status: 422, title: 'A number cannot be kept exactly' },
  invalid_string: { status: 422, title: 'A string cannot be stored' },
  invalid_document_name: { status: 422, title: 'A document name is not valid' },
  duplicate_member: { status: 422, title: 'A JSON object has two members of one name' },
  nested_too_deeply: { status: 422, title: 'A JSON value is nested too deeply' },
  state_not_object: { status: 422, title: 'The state is not a JSON object' },
  too_many_changes: { status: 422, title: 'The commit changes too many documents' },
  idempotency_key_reused: { status: 422, title: 'The idempotency key belongs to another change' },

  // Backup and restore
  confirm_missing: { status: 400, title: 'The confirmation is missing' },
  invalid_restore_request: { status: 400, title: 'The restore request is not valid' },
  backup_empty: { status: 400, title: 'The backup has neither state nor audit entries' },
  backup_incomplete: { status: 422, title: 'The backup is truncated or incomplete' },
  backup_malformed: { status: 422, title: 'The backup does not have the form of a backup' },
  backup_unverified: { status: 422, title: 'The backup has no manifest to verify it by' },
  backup_digest_mismatch: { status: 422, title: 'A digest of the backup does not hold' },
  backup_count_mismatch: { status: 422, title: 'A count of the backup does not hold' },
  backup_chain_broken: { status: 422, title: 'The audit chain of the backup does not hold' },
  backup_duplicate_document: { status: 422, title: 'The backup has a document twice' },
  backup_version_unknown: { status: 409, title: 'The backup has a version that this node does not know' },
  backup_schema_newer: { status: 409, title: 'The backup is of a newer schema' },
  state_key_mismatch: { status: 409, title: 'The backup was made for another state key' },
  revision_mismatch: { status: 409, title: 'The live revision is not the expected one' },
  restore_in_progress: { status: 409, title: 'Another restore of this state is under way' },
  audit_entry_too_large: { status: 422, title: 'An audit entry is too large to be imported' },
  scratch_exists: { status: 409, title: 'There is a state of this name already' },
  scratch_not_found: { status: 404, title: 'There is no scratch state of this name' },
  invalid_undo_request: { status: 400, title: 'The undo request is not valid' },
  nothing_to_undo: { status: 409, title: 'There is nothing to undo' },
  audit_history_lost: { status: 409, title: 'The trail does not hold what an earlier backup holds' },
  audit_history_unproven: {
    status: 409,
    title: 'It cannot be told whether the trail holds what an earlier backup holds',
  },

  // The service
  starting: { status: 503, title: 'The node is starting' },
  draining: { status: 503, title: 'The node is shutting down' },
  database_unavailable: { status: 503, title: 'The database is not available' },
  schema_behind: { status: 503, title: 'The database needs migrations' },
  schema_ahead: { status: 503, title: 'The database is of a newer schema than this node' },
  queue_full: { status: 503, title: 'Too many commits are waiting' },
  state_busy: { status: 503, title: 'The state is locked by a restore' },
  commit_outcome_unknown: { status: 503, title: 'It is not known whether the commit was made' },
  migration_invalid: { status: 500, title: 'The migrations do not fit the database' },
  audit_chain_broken: { status: 500, title: 'The audit trail in the database is broken' },
  internal: { status: 500, title: 'An internal error' },
} as const satisfies Record<string, { status: number; title: string }>;

export type ErrorCode = keyof typeof catalogue;

/** Where in the input the fault is; every member is optional and safe to show. */
export interface ErrorPlace {
  /** RFC 6901 JSON pointer into the document or body. */
  pointer?: string;
  /** Byte offset in the decoded (not gzipped) body, counted from 0. */
  offset?: number;
  /** Name of the document at fault. */
  document?: string;
  /** Seq of the audit entry at fault. */
  seq?: number;
}

export interface LoomErrorOptions extends ErrorPlace {
  cause?: unknown;
  /** Seconds after which trying again makes sense; answered as `Retry-After`. */
  retryAfterSeconds?: number;
  /** For `restore_in_progress`: when the other one began, RFC 3339. */
  since?: string;
  /** For `precondition_failed`: the entity tag that the target has now, `null` when it does not exist. */
  currentEtag?: string | null;
}

/** An expected failure: its `code` is for programs, its `message` for humans; both are shown to the client. */
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

export function errorCodes(): { code: ErrorCode; status: number; title: string }[] {
  return Object.entries(catalogue).map(([code, entry]) => ({ code: code as ErrorCode, ...entry }));
}

export function isLoomError(error: unknown): error is LoomError {
  return error instanceof LoomError;
}

function pickPlace(options: LoomErrorOptions): ErrorPlace {
  const place: ErrorPlace = {};
  if (options.pointer !== undefined) place.pointer = options.pointer;
  if (options.offset !== undefined) place.offset = options.offset;
  if (options.document !== undefined) place.document = options.document;
  if (options.seq !== undefined) place.seq = options.seq;
  return place;
}
