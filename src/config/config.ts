import { z } from 'zod';
import { certificatesFault } from './checks.ts';
import { schema } from './schema.ts';
import { isServiceLink, unknownVariables } from './unknown.ts';

export interface PostgresConfig {
  /** Holds the password. */
  readonly url: string;
  readonly stateKey: string;
  readonly poolMax: number;
  readonly idleTimeoutMs: number;
  readonly connectTimeoutMs: number;
  /** `ca` is PEM text; without it the certificate authorities that come with Node are trusted. */
  readonly ssl: false | { readonly rejectUnauthorized: boolean; readonly ca?: string };
}

export type LogLevel = 'fatal' | 'error' | 'warn' | 'info' | 'debug' | 'trace' | 'silent';

export interface Config {
  readonly postgres: PostgresConfig;
  readonly http: {
    readonly host: string;
    /** 0 takes a free port. */
    readonly port: number;
    readonly trustProxy: boolean;
    readonly metricsPublic: boolean;
  };
  /** One or two admin tokens; none, one or two client tokens. */
  readonly tokens: { readonly admin: readonly string[]; readonly client: readonly string[] };
  readonly log: { readonly level: LogLevel };
  readonly shutdown: { readonly delayMs: number; readonly timeoutMs: number };
  readonly migrate: 'auto' | 'manual';
  readonly maxDocumentBytes: number;
}

/** EX_CONFIG of sysexits.h: what a process exits with after a ConfigError. */
export const CONFIG_EXIT_CODE = 78;

/** Every problem of the configuration; safe to print, because no problem repeats a value. */
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
  /** Also has a `_FILE` form. */
  secret: boolean;
  /** As it would be written in the environment; undefined when there is none. */
  default: string | undefined;
}

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
 * Reads the whole configuration out of an environment; `readFile` gives the text of a file or throws. Empty variables
 * count as unset. Throws a ConfigError that lists every problem at once.
 */
export function parseConfig(env: Environment, { readFile }: { readFile: ReadFile }): Config {
  return toConfig(...parseVariables(schema, env, readFile));
}

/** Only what is needed to reach the database, as `parseConfig`: no token has to be set. */
export function parseDatabaseConfig(
  env: Environment,
  { readFile }: { readFile: ReadFile },
): Pick<Config, 'postgres' | 'log'> {
  const [values, ca] = parseVariables(schema.omit({ LOOM_ADMIN_TOKEN: true }), env, readFile);
  return { postgres: toPostgresConfig(values, ca), log: { level: values.LOOM_LOG_LEVEL } };
}

/** Only where the node listens, as `parseConfig`: neither a database nor a token has to be set. */
export function parseListenConfig(env: Environment): Pick<Config['http'], 'host' | 'port'> {
  const part = schema.pick({ LOOM_HOST: true, LOOM_PORT: true });
  const [values] = parseVariables(part, env, () => '');
  return { host: values.LOOM_HOST, port: values.LOOM_PORT };
}

/** What a command needs to ask a node: where it is, and the first of the admin tokens. */
export interface ClientConfig {
  readonly url: string;
  readonly token: string;
}

/** As `parseConfig`, without the database. `url` stands in for `LOOM_URL`. */
export function parseClientConfig(
  env: Environment,
  { readFile, url }: { readFile: ReadFile; url?: string },
): ClientConfig {
  const part = schema.pick({ LOOM_ADMIN_TOKEN: true, LOOM_URL: true, LOOM_HOST: true, LOOM_PORT: true });
  const [values] = parseVariables(part, { ...env, ...(url === undefined ? {} : { LOOM_URL: url }) }, readFile);
  const { LOOM_HOST: host, LOOM_PORT: port } = values;
  return { url: values.LOOM_URL ?? `http://${reachableHost(host)}:${port}`, token: values.LOOM_ADMIN_TOKEN[0] ?? '' };
}

/** A node that listens on all addresses is reached by the loopback one. In the form that a URL needs. */
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
  const wanted = new Map(
    [...given].filter(
      ([name]) => name.replace(/_FILE$/, '') in part.shape || !(name.replace(/_FILE$/, '') in schema.shape),
    ),
  );
  const { values, origins, failed } = resolveSecretFiles(wanted, readFile, problems);
  const parsed = part.safeParse(values);
  for (const issue of parsed.error?.issues ?? []) {
    const name = String(issue.path[0]);
    if (!failed.has(name)) problems.push(`${origins.get(name) ?? name} ${issue.message}${requiredHint(issue, name)}`);
  }
  // What concerns two variables, or a file, is checked even when a third variable is wrong: all problems at once.
  const ca = resolveCertificates(values, readFile, problems);
  checkTokensDiffer(values, problems);
  if (problems.length > 0 || !parsed.success) throw new ConfigError(problems);
  return [parsed.data, ca];
}

/** The values that must not appear in any output: for the logger's last line of defence. */
export function configSecrets(config: Config): string[] {
  return [config.postgres.url, ...config.tokens.admin, ...config.tokens.client];
}

type DatabaseValues = Omit<z.infer<typeof schema>, 'LOOM_ADMIN_TOKEN'>;

function toPostgresConfig(values: DatabaseValues, ca: string | undefined): PostgresConfig {
  return {
    url: values.LOOM_PG_URL,
    stateKey: values.LOOM_PG_STATE_KEY,
    poolMax: values.LOOM_PG_POOL_MAX,
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
    },
    tokens: { admin: values.LOOM_ADMIN_TOKEN, client: values.LOOM_CLIENT_TOKEN ?? [] },
    log: { level: values.LOOM_LOG_LEVEL },
    shutdown: { delayMs: values.LOOM_SHUTDOWN_DELAY_MS, timeoutMs: values.LOOM_SHUTDOWN_TIMEOUT_MS },
    migrate: values.LOOM_MIGRATE,
    maxDocumentBytes: values.LOOM_MAX_DOCUMENT_BYTES,
  };
}

/** LOOM_PORT as Kubernetes sets it for a Service `loom` is nobody's choice of a port: it counts as unset. */
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
    ({ name, meant }) => `${name} is not a variable of LOOM${meant === undefined ? '' : `; did you mean ${meant}?`}`,
  );
}

function requiredHint(issue: z.core.$ZodIssue, name: string): string {
  return issue.code === 'invalid_type' ? `: set it, or ${name}_FILE to the path of a file that holds it` : '';
}

interface Resolved {
  values: Partial<Record<VariableName, string>>;
  /** Under which name a secret was given. */
  origins: Map<string, string>;
  /** Secrets with a problem already reported. */
  failed: Set<string>;
}

function resolveSecretFiles(given: Map<string, string>, readFile: ReadFile, problems: string[]): Resolved {
  const resolved: Resolved = { values: Object.fromEntries(given), origins: new Map(), failed: new Set() };
  for (const { name } of configVariables().filter((variable) => variable.secret)) {
    const fileName = `${name}_FILE`;
    const path = given.get(fileName);
    if (path === undefined) continue;
    if (given.has(name)) {
      problems.push(`${name} and ${fileName} are both set: set one of them`);
      resolved.failed.add(name);
      continue;
    }
    const content = readOrReport(fileName, path, readFile, problems)?.replace(/\r?\n$/, '');
    if (content === '') problems.push(`${fileName} names a file that is empty${shownPath(path)}`);
    if (content === undefined || content === '') resolved.failed.add(name);
    else Object.assign(resolved.values, { [name]: content });
    resolved.origins.set(name, fileName);
  }
  return resolved;
}

function resolveCertificates(values: Resolved['values'], readFile: ReadFile, problems: string[]): string | undefined {
  const given = values.LOOM_PG_SSL_CA;
  if (given === undefined) return undefined;
  // Whoever names an authority expects TLS; a connection in the clear would be a nasty surprise.
  if (!['true', '1'].includes(values.LOOM_PG_SSL?.toLowerCase() ?? ''))
    problems.push('LOOM_PG_SSL_CA is set, but LOOM_PG_SSL is not true');
  // Some ways of setting variables cannot carry a line break, and write \n for it.
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
    problems.push(`${name} names a file that cannot be read${code}${shownPath(path)}`);
    return undefined;
  }
}

/** Who mixes up the two forms puts the secret itself where its path belongs: only what is clearly a path is shown. */
function shownPath(path: string): string {
  return /^(\.{0,2}\/|[A-Za-z]:\\)/.test(path) ? `: ${path}` : '';
}

/** A client token that is an admin token too would open everything. */
function checkTokensDiffer(values: Resolved['values'], problems: string[]): void {
  const admin = values.LOOM_ADMIN_TOKEN?.split(',') ?? [];
  const client = values.LOOM_CLIENT_TOKEN?.split(',') ?? [];
  if (client.some((token) => token !== '' && admin.includes(token)))
    problems.push('LOOM_CLIENT_TOKEN must differ from LOOM_ADMIN_TOKEN');
}
