import { z } from 'zod';
import { certificatesFault } from './checks.ts';
import { schema } from './schema.ts';
import {
  checkStoredBackups,
  type StoredBackupsConfig,
  storedBackupsSecrets,
  toStoredBackupsConfig,
} from './stored-backups.ts';
import { isServiceLink, unknownVariables } from './unknown.ts';

// src/config/ parses the environment into one typed value and reports all problems together. It is pure: it may import
// zod, backup, limits, domain and node:crypto. It must not know files or processes: the caller passes the environment
// and a function that reads a file.

export interface PostgresConfig {
  /** Contains the password. */
  readonly url: string;
  readonly stateKey: string;
  readonly poolMax: number;
  /** Maximum number of connections that streams use together. */
  readonly streamsMax: number;
  readonly idleTimeoutMs: number;
  readonly connectTimeoutMs: number;
  /** `ca` is PEM text. Default: the certificate authorities that come with Node. */
  readonly ssl: false | { readonly rejectUnauthorized: boolean; readonly ca?: string };
}

export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';

export interface Config {
  readonly postgres: PostgresConfig;
  readonly http: {
    readonly host: string;
    /** 0 for any free port. */
    readonly port: number;
    /** The trusted proxies: none, a number of them, or their addresses and networks. */
    readonly trustProxy: false | number | string[];
    readonly metricsPublic: boolean;
    /** Undefined for as many as the limit of open files allows, see `chooseMaxConnections`. */
    readonly maxConnections?: number | undefined;
  };
  /** One or two admin tokens; none, one or two of the other kinds. */
  readonly tokens: {
    readonly admin: readonly string[];
    readonly client: readonly string[];
    readonly metrics?: readonly string[] | undefined;
  };
  readonly log: { readonly level: LogLevel };
  readonly shutdown: { readonly delayMs: number; readonly timeoutMs: number };
  readonly migrate: 'auto' | 'manual';
  readonly maxDocumentBytes: number;
  /** Undefined without a backup store. */
  readonly storedBackups?: StoredBackupsConfig | undefined;
}

/** Identifies a ConfigError to the shell: EX_CONFIG of sysexits.h. */
export const CONFIG_EXIT_CODE = 78;

/** Reports every problem of the configuration. The message is safe to print, because it never repeats a value. */
export class ConfigError extends Error {
  readonly problems: readonly string[];

  constructor(problems: readonly string[]) {
    super(['The configuration is not valid:', ...problems.map((problem) => `- ${problem}`)].join('\n'));
    this.name = 'ConfigError';
    this.problems = problems;
  }
}

type VariableName = keyof typeof schema.shape;
type Environment = Record<string, string | undefined>;
type ReadFile = (path: string) => string;

export interface ConfigVariable {
  name: string;
  description: string;
  required: boolean;
  /** Whether the variable also has a `_FILE` form. */
  secret: boolean;
  /** As written in the environment; undefined without a default. */
  default: string | undefined;
}

/** Lists every variable, for messages and for the tests of the documentation. */
export function configVariables(): ConfigVariable[] {
  return Object.entries(schema.shape).map(([name, variable]) => ({
    name,
    description: variable.meta()?.description ?? '',
    required: !variable.safeParse(undefined).success,
    secret: variable.meta()?.secret === true,
    default: variable instanceof z.ZodDefault ? String(variable.def.defaultValue) : undefined,
  }));
}

/**
 * Reads the configuration of a node from an environment. `readFile` returns the text of a file or throws. Empty
 * variables count as unset. Throws a ConfigError that lists every problem.
 */
export function parseConfig(env: Environment, { readFile }: { readFile: ReadFile }): Config {
  return toConfig(...parseVariables(schema, env, readFile));
}

/** Reads the variables for the database and the log, as `parseConfig` does. No token is required. */
export function parseDatabaseConfig(
  env: Environment,
  { readFile }: { readFile: ReadFile },
): Pick<Config, 'postgres' | 'log'> {
  const [values, ca] = parseVariables(schema.omit({ LOOM_ADMIN_TOKEN: true }), env, readFile);
  return { postgres: toPostgresConfig(values, ca), log: { level: values.LOOM_LOG_LEVEL } };
}

/** Reads the address of the node, as `parseConfig` does. Neither a database nor a token is required. */
export function parseListenConfig(env: Environment): Pick<Config['http'], 'host' | 'port'> {
  const part = schema.pick({ LOOM_HOST: true, LOOM_PORT: true });
  const [values] = parseVariables(part, env, () => '');
  return { host: values.LOOM_HOST, port: values.LOOM_PORT };
}

/** Contains the address of a node and the first of its admin tokens. */
export interface ClientConfig {
  readonly url: string;
  readonly token: string;
}

/** Reads the variables for a client command, as `parseConfig` does. `url` overrides `LOOM_URL`. */
export function parseClientConfig(
  env: Environment,
  { readFile, url }: { readFile: ReadFile; url?: string },
): ClientConfig {
  const part = schema.pick({ LOOM_ADMIN_TOKEN: true, LOOM_URL: true, LOOM_HOST: true, LOOM_PORT: true });
  const [values] = parseVariables(part, { ...env, ...(url === undefined ? {} : { LOOM_URL: url }) }, readFile);
  const { LOOM_HOST: host, LOOM_PORT: port } = values;
  return { url: values.LOOM_URL ?? `http://${reachableHost(host)}:${port}`, token: values.LOOM_ADMIN_TOKEN[0] ?? '' };
}

/** Returns the host for a URL. For a node that listens on all addresses, it is the loopback address. */
function reachableHost(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  if (host === '::' || host === '[::]') return '[::1]';
  return host.includes(':') && !host.startsWith('[') ? `[${host}]` : host;
}

function parseVariables<Part extends z.ZodObject>(
  part: Part,
  env: Environment,
  readFile: ReadFile,
): [values: z.infer<Part>, ca: string | undefined] {
  const given = definedVariables(env);
  const problems = unknownProblems(given);
  const relevant = new Map(
    [...given].filter(
      ([name]) => name.replace(/_FILE$/, '') in part.shape || !(name.replace(/_FILE$/, '') in schema.shape),
    ),
  );
  const { values, origins, failed } = resolveSecretFiles(relevant, readFile, problems);
  const parsed = part.safeParse(values);
  for (const issue of parsed.error?.issues ?? []) {
    const name = String(issue.path[0]);
    if (!failed.has(name)) problems.push(`${origins.get(name) ?? name} ${issue.message}${requiredHint(issue, name)}`);
  }
  // These checks run even after other problems, so that LOOM reports all of them together.
  const ca = resolveCertificates(values, readFile, problems);
  checkTokensDiffer(values, problems);
  checkStreamsFit(values, problems);
  checkStoredBackups(relevant, env, Object.keys(part.shape), problems);
  if (problems.length > 0 || !parsed.success) throw new ConfigError(problems);
  return [parsed.data, ca];
}

/** Returns the secrets that the logger must replace. */
export function configSecrets(config: Config): string[] {
  const { postgres, tokens, storedBackups } = config;
  const ofTokens = [...tokens.admin, ...tokens.client, ...(tokens.metrics ?? [])];
  return [postgres.url, ...ofTokens, ...storedBackupsSecrets(storedBackups)];
}

/** Returns half of the pool, but never its last two connections. */
function defaultStreamsMax(poolMax: number): number {
  return Math.min(Math.floor(poolMax / 2), poolMax - 2);
}

type DatabaseValues = Omit<z.infer<typeof schema>, 'LOOM_ADMIN_TOKEN'>;

function toPostgresConfig(values: DatabaseValues, ca: string | undefined): PostgresConfig {
  return {
    url: values.LOOM_PG_URL,
    stateKey: values.LOOM_PG_STATE_KEY,
    poolMax: values.LOOM_PG_POOL_MAX,
    streamsMax: values.LOOM_PG_STREAMS_MAX ?? defaultStreamsMax(values.LOOM_PG_POOL_MAX),
    idleTimeoutMs: values.LOOM_PG_IDLE_TIMEOUT_MS,
    connectTimeoutMs: values.LOOM_PG_CONNECT_TIMEOUT_MS,
    ssl: values.LOOM_PG_SSL && {
      rejectUnauthorized: values.LOOM_PG_SSL_REJECT_UNAUTHORIZED,
      ...(ca === undefined ? {} : { ca }),
    },
  };
}

function toConfig(values: z.infer<typeof schema>, ca: string | undefined): Config {
  return {
    postgres: toPostgresConfig(values, ca),
    http: {
      host: values.LOOM_HOST,
      port: values.LOOM_PORT,
      trustProxy: values.LOOM_TRUST_PROXY,
      metricsPublic: values.LOOM_METRICS_PUBLIC,
      maxConnections: values.LOOM_MAX_CONNECTIONS,
    },
    tokens: {
      admin: values.LOOM_ADMIN_TOKEN,
      client: values.LOOM_CLIENT_TOKEN ?? [],
      metrics: values.LOOM_METRICS_TOKEN,
    },
    log: { level: values.LOOM_LOG_LEVEL },
    shutdown: { delayMs: values.LOOM_SHUTDOWN_DELAY_MS, timeoutMs: values.LOOM_SHUTDOWN_TIMEOUT_MS },
    migrate: values.LOOM_MIGRATE,
    maxDocumentBytes: values.LOOM_MAX_DOCUMENT_BYTES,
    storedBackups: toStoredBackupsConfig(values),
  };
}

/** Returns the variables that are set. Ignores LOOM_PORT if Kubernetes set it for a Service `loom`. */
function definedVariables(env: Environment): Map<string, string> {
  const defined = Object.entries(env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && entry[1] !== '' && !(entry[0] === 'LOOM_PORT' && isServiceLink(entry[0], entry[1])),
  );
  return new Map(defined);
}

function unknownProblems(given: Map<string, string>): string[] {
  const known = configVariables().flatMap(({ name, secret }) => (secret ? [name, `${name}_FILE`] : [name]));
  return unknownVariables(Object.fromEntries(given), known).map(
    ({ name, suggestion }) =>
      `${name} is not a variable of LOOM${suggestion === undefined ? '' : `; did you mean ${suggestion}?`}`,
  );
}

function requiredHint(issue: z.core.$ZodIssue, name: string): string {
  return issue.code === 'invalid_type' ? `: set it, or set ${name}_FILE to the path of a file that contains it` : '';
}

interface Resolved {
  values: Partial<Record<VariableName, string>>;
  /** Maps a secret to the variable that supplied it: the plain one or its `_FILE` form. */
  origins: Map<string, string>;
  /** Names the secrets whose problem is already reported. */
  failed: Set<string>;
}

function resolveSecretFiles(given: Map<string, string>, readFile: ReadFile, problems: string[]): Resolved {
  const resolved: Resolved = { values: Object.fromEntries(given), origins: new Map(), failed: new Set() };
  for (const { name } of configVariables().filter((variable) => variable.secret)) {
    const fileName = `${name}_FILE`;
    const path = given.get(fileName);
    if (path === undefined) continue;
    if (given.has(name)) {
      problems.push(`${name} and ${fileName} are both set: set only one of them`);
      resolved.failed.add(name);
      continue;
    }
    const content = readOrReport(fileName, path, readFile, problems)?.replace(/\r?\n$/, '');
    if (content === '') problems.push(`${fileName} names an empty file${shownPath(path)}`);
    if (content === undefined || content === '') resolved.failed.add(name);
    else Object.assign(resolved.values, { [name]: content });
    resolved.origins.set(name, fileName);
  }
  return resolved;
}

function resolveCertificates(values: Resolved['values'], readFile: ReadFile, problems: string[]): string | undefined {
  const given = values.LOOM_PG_SSL_CA;
  if (given === undefined) return undefined;
  // An operator who names an authority expects TLS. Without LOOM_PG_SSL, the connection is not encrypted.
  if (!['true', '1'].includes(values.LOOM_PG_SSL?.toLowerCase() ?? ''))
    problems.push('LOOM_PG_SSL_CA is set, but LOOM_PG_SSL is not true: set it to true, or remove LOOM_PG_SSL_CA');
  // Some tools cannot set variables with line breaks, and write \n instead.
  const isInline = given.includes('-----BEGIN ');
  const pem = isInline ? given.replaceAll('\\n', '\n') : readOrReport('LOOM_PG_SSL_CA', given, readFile, problems);
  const fault = pem === undefined ? undefined : certificatesFault(pem);
  if (fault !== undefined) problems.push(`LOOM_PG_SSL_CA ${fault}`);
  return pem;
}

function readOrReport(name: string, path: string, readFile: ReadFile, problems: string[]): string | undefined {
  try {
    return readFile(path);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? ` (${String(error.code)})` : '';
    problems.push(`${name} names a file that could not be read${code}${shownPath(path)}`);
    return undefined;
  }
}

/** Shows a value only if it is clearly a path. By mistake, a `_FILE` variable may contain the secret itself. */
function shownPath(path: string): string {
  return /^(\.{0,2}\/|[A-Za-z]:\\)/.test(path) ? `: ${path}` : '';
}

/** Refuses a token with two kinds, because it would open more routes than its owner expects. */
function checkTokensDiffer(values: Resolved['values'], problems: string[]): void {
  const tokensOf = (name: VariableName): string[] => (values[name] ?? '').split(',').filter((token) => token !== '');
  const kinds = ['LOOM_ADMIN_TOKEN', 'LOOM_CLIENT_TOKEN', 'LOOM_METRICS_TOKEN'] as const;
  for (const [index, name] of kinds.entries()) {
    for (const earlier of kinds.slice(0, index)) {
      if (tokensOf(name).some((token) => tokensOf(earlier).includes(token)))
        problems.push(`${name} must differ from ${earlier}`);
    }
  }
}

/** Refuses a share for streams that takes the last two connections: commits and short reads need one each. */
function checkStreamsFit(values: Resolved['values'], problems: string[]): void {
  const { data: poolMax } = schema.shape.LOOM_PG_POOL_MAX.safeParse(values.LOOM_PG_POOL_MAX);
  const { data: streamsMax } = schema.shape.LOOM_PG_STREAMS_MAX.safeParse(values.LOOM_PG_STREAMS_MAX);
  if (poolMax === undefined || streamsMax === undefined || streamsMax <= poolMax - 2) return;
  problems.push(
    `LOOM_PG_STREAMS_MAX must be at most ${poolMax - 2}, because LOOM_PG_POOL_MAX is ${poolMax} and commits and short reads need two connections`,
  );
}
