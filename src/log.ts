import { type DestinationStream, type Logger, pino, stdTimeFunctions } from 'pino';
import type { LogLevel } from './config/config.ts';
import { printable } from './json/printable.ts';
import { limits } from './limits.ts';
import { createLogOutput } from './log-output.ts';

export type Log = Logger;

export interface LogOptions {
  level: LogLevel;
  /** Default: standard output, without a count of dropped lines. */
  stream?: DestinationStream;
  /** Values to replace wherever they appear in a line. */
  secrets?: readonly string[];
}

/**
 * Creates the logger of a node, which writes one JSON object a line. It keeps secrets out in three ways: it redacts
 * members by their names, reduces errors and requests to harmless members, and replaces known secrets in the finished
 * line.
 */
export function createLogger({ level, stream = createLogOutput(), secrets = [] }: LogOptions): Log {
  const replaceSecrets = createSecretFilter(secrets);
  const options = {
    level,
    base: { service: 'loom' },
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { err: errorForLog, error: errorForLog, req: requestForLog },
    redact: { paths: redactedPaths(), censor: REDACTED },
    // A terminal would obey the control characters that JSON does not escape, such as U+009B.
    hooks: { streamWrite: (line: string) => printable(replaceSecrets(line)) },
  };
  return pino(options, stream);
}

/**
 * Returns the same log for lines whose members are known to be harmless. Searching the members of a line for secret
 * names takes ten times as long as writing it, and a node writes a line for each request. Known secrets are replaced in
 * these lines, too.
 */
export function withoutRedaction(log: Log): Log {
  return log.child({}, { redact: [] });
}

/** The log of a process, on standard output. */
export interface ProcessLog {
  log: Log;
  /** Returns how many lines were dropped because standard output did not accept them. */
  droppedLines(): number;
  /** Waits until the lines are written, for at most `limits.logFlushMs`. Call it before the process ends. */
  flush(): Promise<void>;
}

/** Creates the logger of a process. Standard output that fails or stands still never blocks it. */
export function openProcessLog(options: Omit<LogOptions, 'stream'>): ProcessLog {
  const output = createLogOutput({
    onResume: (dropped) =>
      log.error({ dropped }, `${dropped} log lines were dropped: they could not be written in time`),
  });
  const log = createLogger({ ...options, stream: output });
  return {
    log,
    droppedLines: output.droppedLines,
    flush: () => new Promise((resolve) => output.flush(resolve)),
  };
}

/** Describes the members of a fastify request that the logger reads. */
interface LoggableRequest {
  id?: unknown;
  method?: string | undefined;
  url?: string | undefined;
  ip?: string | undefined;
}

/** Returns method, path, address and id of a request. Headers and query may contain a token. */
function requestForLog(request: LoggableRequest): Record<string, unknown> {
  return {
    id: request.id,
    method: request.method,
    path: shortened(request.url?.split(/[?#]/, 1)[0]),
    remoteAddress: request.ip,
  };
}

/** Cuts a path to `limits.maxLoggedPathCharacters`: any client could fill the log with paths of 16 KiB. */
function shortened(path: string | undefined): string | undefined {
  const max = limits.maxLoggedPathCharacters;
  return path === undefined || path.length <= max ? path : `${path.slice(0, max)}…`;
}

/**
 * Returns an error and its causes, reduced to useful members without secrets. PostgreSQL's errors also have `detail`,
 * `where`, `internalQuery` and others, which quote data. Errors of pg may refer to a client with its password.
 */
function errorForLog(error: unknown): unknown {
  return describeError(error, 0);
}

const REDACTED = '[redacted]';

/** Bounds the depth, because an error can be its own cause, directly or indirectly. */
const MAX_CAUSES = 8;

const errorMembers = ['code', 'status', 'place', 'severity', 'constraint', 'table', 'routine', 'syscall', 'problems'];

function describeError(error: unknown, depth: number): unknown {
  if (!(error instanceof Error)) return typeof error === 'object' ? { type: 'unknown' } : { message: String(error) };
  const described: Record<string, unknown> = { type: error.name, message: error.message, stack: error.stack };
  for (const name of errorMembers) {
    const value: unknown = Reflect.get(error, name);
    if (value !== undefined && typeof value !== 'function') described[name] = value;
  }
  if (depth >= MAX_CAUSES) return described;
  if (error.cause !== undefined) described.cause = describeError(error.cause, depth + 1);
  if (error instanceof AggregateError)
    described.errors = error.errors.slice(0, MAX_CAUSES).map((inner) => describeError(inner, depth + 1));
  return described;
}

/** Names the secret members of HTTP, pg and the configuration. The logger redacts them three levels deep. */
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
  'LOOM_METRICS_TOKEN',
];

function redactedPaths(): string[] {
  return redactedMembers.flatMap((name) => [`["${name}"]`, `*["${name}"]`, `*.*["${name}"]`]);
}

/** Creates a filter for finished lines. It searches for each secret in its JSON-escaped form. */
function createSecretFilter(secrets: readonly string[]): (line: string) => string {
  const escaped = secrets.filter((secret) => secret !== '').map((secret) => JSON.stringify(secret).slice(1, -1));
  return (line) => {
    let clean = line;
    for (const secret of escaped) if (clean.includes(secret)) clean = clean.replaceAll(secret, REDACTED);
    if (!clean.includes('postgres')) return clean;
    return clean.replace(/(postgres(?:ql)?:\/\/)[^\s"/?#]*@/g, `$1${REDACTED}@`);
  };
}
