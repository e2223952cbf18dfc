import pg from 'pg';
import { isLoomError, LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';

/** Why a statement failed, as far as a caller must know. */
type Fault = 'unavailable' | 'busy' | 'overloaded' | 'missing' | 'damaged' | 'unknown';

/**
 * Converts any error of PostgreSQL, the network or `pg` into a LoomError; a LoomError passes through. Faults of the server or
 * the network become `database_unavailable` or `state_busy` (both with `Retry-After`), everything unknown becomes `internal`.
 * The original error is the cause. Its text never reaches the message, because it may name hosts, users or data.
 */
export function toDatabaseError(error: unknown): LoomError {
  if (isLoomError(error)) return error;
  const retryAfterSeconds = limits.databaseRetrySeconds;
  switch (faultOf(error)) {
    case 'unavailable':
      return new LoomError('database_unavailable', 'The database cannot be reached at present.', {
        cause: error,
        retryAfterSeconds,
      });
    case 'overloaded':
      return new LoomError('database_unavailable', 'The database could not execute the request at present.', {
        cause: error,
        retryAfterSeconds,
      });
    case 'missing':
      return stateMissing(error);
    case 'damaged':
      return new LoomError(
        'audit_chain_broken',
        'The audit trail in the database contradicts its state row: entries exist where new ones belong. GET /v1/audit/verify names the fault.',
        { cause: error },
      );
    case 'busy':
      return new LoomError('state_busy', 'Another transaction holds a lock that this one needs.', {
        cause: error,
        retryAfterSeconds: 1,
      });
    default:
      return new LoomError('internal', 'An internal error.', { cause: error });
  }
}

/** Reports that the state's row does not exist, because the node is still starting or somebody has dropped it. */
export function stateMissing(cause?: unknown): LoomError {
  return new LoomError('starting', 'The state does not exist: it has not been created yet, or it was dropped.', {
    cause,
    retryAfterSeconds: 1,
  });
}

/** Returns the SQLSTATE (PostgreSQL's appendix "Error Codes") when the server itself reported the error. */
export function sqlStateOf(error: unknown): string | undefined {
  const original = originalOf(error);
  return original instanceof pg.DatabaseError ? original.code : undefined;
}

/** Returns the error of PostgreSQL or of the network inside a LoomError. */
function originalOf(error: unknown): unknown {
  return isLoomError(error) && error.cause !== undefined ? error.cause : error;
}

/**
 * Tells whether the connection broke or was never made. When a `commit` fails this way, its outcome is unknown: the server may
 * have committed before the answer was lost.
 */
export function isConnectionFault(error: unknown): boolean {
  return faultOf(originalOf(error)) === 'unavailable';
}

/** Tells whether the server or LOOM itself raised the error between two messages of the protocol, so that the connection is usable. */
export function isInStep(error: unknown): boolean {
  const original = originalOf(error);
  return (original instanceof pg.DatabaseError || isLoomError(original)) && !isConnectionFault(original);
}

/** Describes the fault in one line for the log, without host, user or password. */
export function describeFault(error: unknown): string {
  const original = originalOf(error);
  if (!(original instanceof Error)) return 'the cause is unknown';
  const state = sqlStateOf(original);
  if (state !== undefined) return sqlStateHints[state] ?? `the server reported ${state}: ${original.message}`;
  const code = codeOf(original);
  if (code === 'ERR_TLS_CERT_ALTNAME_INVALID' || code === 'HOSTNAME_MISMATCH')
    return "the server's certificate is for another host name than the one in LOOM_PG_URL";
  if (isCertificateCode(code)) return `the server's certificate is not trusted (${code}): check LOOM_PG_SSL_CA`;
  if (original.message === NO_TLS) return 'the server does not support TLS, but LOOM_PG_SSL is true';
  if (original.message.startsWith('SASL:'))
    return 'the password is missing, or the server asks for an unknown kind of authentication';
  return code === undefined ? original.message : `the connection failed with ${code}`;
}

const NO_TLS = 'The server does not support SSL connections';

const sqlStateHints: Record<string, string> = {
  '28P01': 'the server refused the password of LOOM_PG_URL (28P01)',
  '28000':
    'the server refused the user or the kind of connection (28000): check LOOM_PG_URL, LOOM_PG_SSL and pg_hba.conf',
  '3D000': 'the database of LOOM_PG_URL does not exist (3D000)',
  '53300': 'the server has no connection left (53300): lower LOOM_PG_POOL_MAX or raise max_connections',
  '57P03': 'the server is starting up or shutting down (57P03)',
};

function faultOf(error: unknown): Fault {
  const state = sqlStateOf(error);
  if (isTrailCollision(error)) return 'damaged';
  if (state !== undefined) return faultOfState(state);
  if (!(error instanceof Error)) return 'unknown';
  const code = codeOf(error);
  if (code !== undefined && (networkCodes.has(code) || isCertificateCode(code))) return 'unavailable';
  return connectionMessages.some((pattern) => pattern.test(error.message)) ? 'unavailable' : 'unknown';
}

/** Tells whether an entry exists where a new one belongs. Somebody has changed the table or the state row by hand. */
function isTrailCollision(error: unknown): boolean {
  return (
    error instanceof pg.DatabaseError && error.code === '23505' && (error.constraint ?? '').startsWith('loom_audit_')
  );
}

function faultOfState(state: string): Fault {
  switch (state) {
    case 'P0002': // no_data_found, which loom_commit raises
      return 'missing';
    case '55P03': // lock_not_available
    case '40001': // serialization_failure
    case '40P01': // deadlock_detected
      return 'busy';
    case '57014': // query_canceled, for LOOM by statement_timeout
    case '25006': // read_only_sql_transaction: a standby, or a primary that was demoted
      return 'overloaded';
    case '57P01': // admin_shutdown
    case '57P02': // crash_shutdown
    case '57P03': // cannot_connect_now
    case '57P04': // database_dropped
    case '57P05': // idle_session_timeout
    case '25P03': // idle_in_transaction_session_timeout, which ends the session
    case '25P04': // transaction_timeout, likewise
    case '3D000': // invalid_catalog_name
      return 'unavailable';
    default:
      return faultOfClass(state.slice(0, 2));
  }
}

function faultOfClass(sqlStateClass: string): Fault {
  switch (sqlStateClass) {
    case '08': // connection_exception; PgBouncer says 08P01 for most of what it refuses
    case '28': // invalid_authorization_specification
      return 'unavailable';
    case '53': // insufficient_resources: disk, memory, connections
    case '58': // system_error: input and output
      return 'overloaded';
    default:
      return 'unknown';
  }
}

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
  'ENOENT', // a Unix socket that is not there
  'EACCES', // a Unix socket that may not be opened
  'EPROTO',
  'ERR_STREAM_DESTROYED',
]);

/** Messages of pg and pg-pool, which report their own failures by message only. */
const connectionMessages = [
  /^Connection terminated/,
  /^timeout expired$/,
  /^timeout exceeded when trying to connect$/,
  /^Query read timeout$/,
  /not queryable$/,
  /^Cannot use a pool after calling end/,
  /^The server does not support SSL connections$/,
  /^There was an error establishing an SSL connection$/,
  /^SASL:/,
];

/** Tells whether Node refused a certificate. Its codes are OpenSSL's names of X509 verification errors. */
function isCertificateCode(code: string | undefined): boolean {
  if (code === undefined) return false;
  return (
    /^ERR_(TLS|SSL)_/.test(code) ||
    /^(CERT|CRL|UNABLE_TO)_|SELF_SIGNED_CERT|^INVALID_(CA|PURPOSE)$|^HOSTNAME_MISMATCH$/.test(code)
  );
}

function codeOf(error: Error): string | undefined {
  return 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
