import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';
import type { LogLevel } from './config/config.ts';

export type Log = Logger;

export interface LogOptions {
  level: LogLevel;
  /** Standard output when left out. */
  stream?: DestinationStream;
  /** Values that are blotted out wherever they appear in a line. */
  secrets?: readonly string[];
}

/**
 * The logger of a node: one JSON object a line. Secrets are kept out three times: members with telling names are
 * redacted, errors and requests are reduced to what is known to be harmless, and what slips through all the same is
 * blotted out of the finished line.
 */
export function createLogger({ level, stream, secrets = [] }: LogOptions): Log {
  const blotOut = createBlotter(secrets);
  const options = {
    level,
    base: { service: 'loom' },
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: errorForLog, error: errorForLog, req: requestForLog },
    redact: { paths: redactedPaths(), censor: REDACTED },
    hooks: { streamWrite: blotOut },
  };
  return stream === undefined ? pino(options) : pino(options, stream);
}

/** What a request looks like to the logger; fastify's has it. */
export interface LoggableRequest {
  id?: unknown;
  method?: string | undefined;
  url?: string | undefined;
  ip?: string | undefined;
}

/** Method, path, address and id of a request. Never its headers, and never its query: a token may stand there. */
export function requestForLog(request: LoggableRequest): Record<string, unknown> {
  return {
    id: request.id,
    method: request.method,
    path: request.url?.split(/[?#]/, 1)[0],
    remoteAddress: request.ip,
  };
}

/**
 * An error with its causes, reduced to what helps and holds no secret. Errors of PostgreSQL also have `detail`, `where`,
 * `internalQuery` and the like, which quote data; errors of pg may hang on to a client with its password; and any error
 * may have members that somebody attached.
 */
function errorForLog(error: unknown): unknown {
  return describeError(error, 0);
}

const REDACTED = '[redacted]';

/** An error that is its own cause, directly or not, must not stop the logger. */
const CAUSES_MOST = 8;

const errorMembers = ['code', 'status', 'place', 'severity', 'constraint', 'table', 'routine', 'syscall', 'problems'];

function describeError(error: unknown, depth: number): unknown {
  if (!(error instanceof Error)) return typeof error === 'object' ? { type: 'unknown' } : { message: String(error) };
  const described: Record<string, unknown> = { type: error.name, message: error.message, stack: error.stack };
  for (const name of errorMembers) {
    const value: unknown = Reflect.get(error, name);
    if (value !== undefined && typeof value !== 'function') described[name] = value;
  }
  if (depth >= CAUSES_MOST) return described;
  if (error.cause !== undefined) described.cause = describeError(error.cause, depth + 1);
  if (error instanceof AggregateError)
    described.errors = error.errors.slice(0, CAUSES_MOST).map((inner) => describeError(inner, depth + 1));
  return described;
}

/** Names in any spelling that HTTP, pg or our configuration gives them. pino redacts by path: here three levels deep. */
const redactedMembers = [
  'authorization',
  'Authorization',
  'proxy-authorization',
  'cookie',
  'set-cookie',
  'x-loom-admin-token',
  'password',
  'token',
  'tokens',
  'adminToken',
  'clientToken',
  'connectionString',
  'databaseUrl',
  'LOOM_PG_URL',
  'LOOM_ADMIN_TOKEN',
  'LOOM_CLIENT_TOKEN',
];

function redactedPaths(): string[] {
  return redactedMembers.flatMap((name) => [`["${name}"]`, `*["${name}"]`, `*.*["${name}"]`]);
}

/** Works on the finished line, so secrets are looked for as JSON writes them. */
function createBlotter(secrets: readonly string[]): (line: string) => string {
  const written = secrets.filter((secret) => secret !== '').map((secret) => JSON.stringify(secret).slice(1, -1));
  return (line) => {
    let clean = line;
    for (const secret of written) if (clean.includes(secret)) clean = clean.replaceAll(secret, REDACTED);
    if (!clean.includes('postgres')) return clean;
    return clean.replace(/(postgres(?:ql)?:\/\/)[^\s"/?#]*@/g, `$1${REDACTED}@`);
  };
}
