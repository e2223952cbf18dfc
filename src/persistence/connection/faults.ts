import pg from 'pg';
import { codeOf, type ErrorCode, isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';

/** Classifies why a statement failed. */
export type Fault =
  | 'unavailable'
  | 'exhausted'
  | 'busy'
  | 'overloaded'
  | 'disk_full'
  | 'read_only'
  | 'forbidden'
  | 'schema_damaged'
  | 'missing'
  | 'inconsistent'
  | 'filtered'
  | 'damaged'
  | 'unknown';

/** Rejects a new connection whose server refuses writes, although the URL asks for a server that accepts them. */
export class ReadOnlyServerError extends Error {
  constructor() {
    super('the server is read-only: it is a standby, or its default_transaction_read_only is on');
    this.name = 'ReadOnlyServerError';
  }
}

/**
 * Converts any error of PostgreSQL, the network or `pg` into a LoomError; a LoomError is returned unchanged. Faults of
 * the server or the network become `database_unavailable` or `state_busy` (both with `Retry-After`), and unknown errors
 * become `internal`. The original error is the cause. The message omits its text, which may name hosts, users or data.
 */
export function toDatabaseError(error: unknown): LoomError {
  return isLoomError(error) ? error : createFault(faultOf(error), error);
}

/** Throws what `toDatabaseError` returns: a handler for `catch`. */
export function throwDatabaseError(error: unknown): never {
  throw toDatabaseError(error);
}

/** Returns the error for a missing state row: the node is still starting, or the state was dropped. */
export function stateMissing(): LoomError {
  return createFault('missing');
}

/** Returns the error for a table whose rows a policy can hide from the role. */
export function rowsFiltered(): LoomError {
  return createFault('filtered');
}

function createFault(fault: Fault, cause?: unknown): LoomError {
  const { code, detail, retryAfterSeconds } = answers[fault];
  const object = fault === 'forbidden' || fault === 'schema_damaged' ? namedObject(cause) : undefined;
  const text = object === undefined ? detail : `${detail} PostgreSQL reports: ${object}.`;
  return new LoomError(code, text, { cause, ...(retryAfterSeconds && { retryAfterSeconds }) });
}

/** Returns the server's message if it consists of fixed words and the name of an object of LOOM. */
function namedObject(error: unknown): string | undefined {
  if (!(error instanceof pg.DatabaseError)) return undefined;
  return objectMessages.find((pattern) => pattern.test(error.message)) && error.message.replaceAll('"', '');
}

const objectMessages = [
  /^permission denied for [a-z ]{1,30} "?[a-z_]\w{0,62}"?$/,
  /^must be owner of [a-z ]{1,30} "?[a-z_]\w{0,62}"?$/,
  /^new row violates row-level security policy for table "[a-z_]\w{0,62}"$/,
  /^query would be affected by row-level security policy for table "[a-z_]\w{0,62}"$/,
  /^relation "[a-z_][\w.]{0,130}" does not exist$/,
  /^column "[a-z_][\w.]{0,130}" does not exist$/,
  /^function loom_\w{1,58}\([a-z, ]{0,200}\) does not exist$/,
];

const answers: Record<Fault, { code: ErrorCode; detail: string; retryAfterSeconds?: number }> = {
  unavailable: {
    code: 'database_unavailable',
    detail: 'The database could not be reached.',
    retryAfterSeconds: limits.databaseRetrySeconds,
  },
  overloaded: {
    code: 'database_unavailable',
    detail: 'The database could not execute the request.',
    retryAfterSeconds: limits.databaseRetrySeconds,
  },
  exhausted: {
    code: 'database_unavailable',
    detail: "All of this node's connections to the database are in use.",
    retryAfterSeconds: limits.databaseRetrySeconds,
  },
  disk_full: {
    code: 'database_unavailable',
    detail: 'The database could not execute the request: its disk is full.',
    retryAfterSeconds: limits.databaseRetrySeconds,
  },
  read_only: {
    code: 'database_unavailable',
    detail: 'The database is read-only: it is a standby, or its default_transaction_read_only is on.',
    retryAfterSeconds: limits.databaseRetrySeconds,
  },
  forbidden: {
    code: 'database_unavailable',
    detail: "The database role of this node lacks a right, or a policy limits it. Grant the rights of LOOM's role.",
    retryAfterSeconds: limits.databaseRetrySeconds,
  },
  schema_damaged: {
    code: 'database_unavailable',
    detail: "An object of LOOM's schema is missing or was changed. Restore the schema.",
    retryAfterSeconds: limits.databaseRetrySeconds,
  },
  busy: {
    code: 'state_busy',
    detail: 'Another transaction holds a lock that this one needs.',
    retryAfterSeconds: 1,
  },
  missing: {
    code: 'starting',
    detail: 'The state does not exist: it has not been created yet, or it was dropped.',
    retryAfterSeconds: 1,
  },
  damaged: {
    code: 'audit_chain_broken',
    detail:
      'The audit trail does not match its state row: an entry exists where a new one belongs. ' +
      'Find the fault with GET /v1/audit/verify.',
  },
  inconsistent: {
    code: 'state_inconsistent',
    detail:
      'The change would make the counts of the state row negative: they do not match the documents. ' +
      'Rows were changed by hand, or are hidden by a policy. If the documents are right, correct the counts with docs/repair-state.sql.',
  },
  filtered: {
    code: 'state_inconsistent',
    detail:
      'Row-level security applies to the database role of this node, so rows of LOOM can be hidden. ' +
      'Disable it on the tables of LOOM, or give the role BYPASSRLS.',
  },
  unknown: { code: 'internal', detail: 'An internal error.' },
};

/** Returns the SQLSTATE if the server reported the error. */
export function sqlStateOf(error: unknown): string | undefined {
  const original = originalOf(error);
  return original instanceof pg.DatabaseError ? original.code : undefined;
}

/** Returns the error of PostgreSQL or the network that a LoomError wraps, even if another LoomError is between them. */
export function originalOf(error: unknown): unknown {
  let original = error;
  while (isLoomError(original) && original.cause !== undefined) original = original.cause;
  return original;
}

/**
 * Returns whether the connection broke or was never made. If a `commit` fails this way, its outcome is unknown: the
 * server may have committed before the answer was lost.
 */
export function isConnectionFault(error: unknown): boolean {
  return faultOf(error) === 'unavailable';
}

/** Returns whether the connection can be used again: the error came between two messages, from LOOM or the server. */
export function isInStep(error: unknown): boolean {
  const original = originalOf(error);
  return (original instanceof pg.DatabaseError || isLoomError(original)) && !leavesServer.has(faultOf(original));
}

/** Returns whether the node should leave the server: it refuses writes, or a short statement had no answer. */
export function suspectsServer(error: unknown): boolean {
  return isQueryTimeout(error) || faultOf(error) === 'read_only';
}

/** Returns whether a statement had no answer before its deadline. */
export function isQueryTimeout(error: unknown): boolean {
  const original = originalOf(error);
  return original instanceof Error && original.message === QUERY_TIMEOUT;
}

/** The error of `pg` after the deadline of a statement. */
const QUERY_TIMEOUT = 'Query read timeout';

/** Contains the faults after which the connection is closed. A read-only server may be a demoted primary. */
const leavesServer: ReadonlySet<Fault> = new Set(['unavailable', 'read_only']);

/** Describes the fault in one line for the log, without host, user or password. */
export function describeFault(error: unknown): string {
  const original = originalOf(error);
  if (!(original instanceof Error)) return 'the cause is unknown';
  const state = sqlStateOf(original);
  if (state !== undefined) return sqlStateHints[state] ?? `the server reported ${state}: ${original.message}`;
  const code = codeOf(original);
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID' || code === 'HOSTNAME_MISMATCH')
    return "the server's certificate is for another host name than the one in LOOM_PG_URL";
  if (code !== undefined && certificateCode.test(code))
    return `the server's certificate is not trusted (${code}): check LOOM_PG_SSL_CA`;
  if (original.message === NO_TLS) return 'the server does not support TLS, but LOOM_PG_SSL is true';
  if (original.message.startsWith('SASL:'))
    return 'the password is missing, or the server requires an unsupported kind of authentication';
  return code === undefined ? original.message : `the connection failed with ${code}`;
}

/** The error of pg-pool when no connection becomes free in time. */
const POOL_EXHAUSTED = 'timeout exceeded when trying to connect';

const NO_TLS = 'The server does not support SSL connections';

const sqlStateHints: Record<string, string> = {
  '28P01': 'the server refused the password of LOOM_PG_URL (28P01)',
  '28000':
    'the server refused the user or the kind of connection (28000): check LOOM_PG_URL, LOOM_PG_SSL and pg_hba.conf',
  '25006': 'the server is read-only (25006): it is a standby, or its default_transaction_read_only is on',
  '53100': "the server's disk is full (53100)",
  '3D000': 'the database of LOOM_PG_URL does not exist (3D000)',
  '53300': 'the server has no connection left (53300): lower LOOM_PG_POOL_MAX or raise max_connections',
  '57P03': 'the server is starting up or shutting down (57P03)',
};

/** Classifies an error of PostgreSQL, the network or `pg`, or the cause of a LoomError. */
export function faultOf(wrapped: unknown): Fault {
  const error = originalOf(wrapped);
  const state = sqlStateOf(error);
  if (error instanceof pg.DatabaseError && isTrailCollision(error)) return 'damaged';
  if (error instanceof pg.DatabaseError && isImpossibleCount(error)) return 'inconsistent';
  if (error instanceof pg.DatabaseError && isFilter(error)) return 'filtered';
  if (state !== undefined) return faultsOfState[state] ?? faultsOfClass[state.slice(0, 2)] ?? 'unknown';
  if (!(error instanceof Error)) return 'unknown';
  if (error instanceof ReadOnlyServerError) return 'read_only';
  if (error.message === POOL_EXHAUSTED) return 'exhausted';
  const code = codeOf(error);
  if (code !== undefined && (networkCodes.has(code) || certificateCode.test(code))) return 'unavailable';
  return connectionMessages.some((pattern) => pattern.test(error.message)) ? 'unavailable' : 'unknown';
}

/** Returns whether an entry exists where a new one belongs: the table or the state row was edited by hand. */
function isTrailCollision({ code, constraint = '' }: pg.DatabaseError): boolean {
  return code === '23505' && (constraint.startsWith('loom_audit_') || constraint === 'loom_change_pkey');
}

/** Returns whether a count of the state row would become negative: documents were changed without it. */
function isImpossibleCount({ code, table }: pg.DatabaseError): boolean {
  return code === '23514' && table === 'loom_state';
}

/** Returns whether a policy hides rows or refuses a change. The SQLSTATE is that of any missing right. */
function isFilter({ code, routine }: pg.DatabaseError): boolean {
  return code === '42501' && (routine === 'check_enable_rls' || routine === 'ExecWithCheckOptions');
}

/** Maps SQLSTATEs to faults (PostgreSQL's appendix "Error Codes"). */
const faultsOfState: Record<string, Fault> = {
  P0002: 'missing', // no_data_found, which loom_commit raises
  '55P03': 'busy', // lock_not_available
  '40001': 'busy', // serialization_failure
  '40P01': 'busy', // deadlock_detected
  '57014': 'overloaded', // query_canceled, for LOOM by statement_timeout
  '25006': 'read_only', // read_only_sql_transaction: a standby, or a primary that was demoted
  '0A000': 'read_only', // feature_not_supported, with which a hot standby refuses `begin … read write`
  '42501': 'forbidden', // insufficient_privilege, also for row-level security
  '42P01': 'schema_damaged', // undefined_table
  '42703': 'schema_damaged', // undefined_column
  '42883': 'schema_damaged', // undefined_function
  '3F000': 'schema_damaged', // invalid_schema_name
  '53100': 'disk_full',
  '57P01': 'unavailable', // admin_shutdown
  '57P02': 'unavailable', // crash_shutdown
  '57P03': 'unavailable', // cannot_connect_now
  '57P04': 'unavailable', // database_dropped
  '57P05': 'unavailable', // idle_session_timeout
  '25P03': 'unavailable', // idle_in_transaction_session_timeout, which ends the session
  '25P04': 'unavailable', // transaction_timeout, likewise
  '3D000': 'unavailable', // invalid_catalog_name
};

/** Maps classes of SQLSTATEs, their first two characters, to faults. */
const faultsOfClass: Record<string, Fault> = {
  '08': 'unavailable', // connection_exception; PgBouncer reports most refusals as 08P01
  '28': 'unavailable', // invalid_authorization_specification
  '53': 'overloaded', // insufficient_resources: disk, memory, connections
  '58': 'overloaded', // system_error: input and output
};

const networkCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'EPIPE',
  'ETIMEDOUT',
  'EHOSTUNREACH',
  'EHOSTDOWN',
  'ENETUNREACH',
  'ENETDOWN',
  'EADDRNOTAVAIL',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EAI_FAIL',
  'ENOENT', // the Unix socket does not exist
  'EACCES', // no permission for the Unix socket
  'EPROTO',
  'ERR_STREAM_DESTROYED',
]);

/** Matches the errors of pg and pg-pool themselves, which have no code. */
const connectionMessages = [
  /^Connection terminated/,
  /^timeout expired$/,
  /^Query read timeout$/,
  /not queryable$/,
  /^Cannot use a pool after calling end/,
  /^The server does not support SSL connections$/,
  /^There was an error establishing an SSL connection$/,
  /^SASL:/,
];

/** Matches Node's codes for a refused certificate: OpenSSL's names of X509 verification errors. */
const certificateCode =
  /^(ERR_TLS|ERR_SSL|CERT|CRL|UNABLE_TO)_|SELF_SIGNED_CERT|^INVALID_(CA|PURPOSE)$|^HOSTNAME_MISMATCH$/;
