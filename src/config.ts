import { z } from 'zod';
import { certificatesFault, hostFault, postgresUrlFault, stateKeyFault, tokensFault } from './config/checks.ts';
import { isServiceLink, unknownVariables } from './config/unknown.ts';
import { limits } from './limits.ts';

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

type Check = (text: string) => string | undefined;

function checked(check: Check): z.ZodType<string, string> {
  return z.string({ error: 'is required' }).check((context) => {
    const fault = check(context.value);
    if (fault !== undefined) context.issues.push({ code: 'custom', message: fault, input: undefined });
  });
}

function integer(least: number, most: number) {
  const expected = `must be a whole number from ${least} to ${most}`;
  return checked((text) => {
    const inRange = /^\d{1,15}$/.test(text) && Number(text) >= least && Number(text) <= most;
    return inRange ? undefined : expected;
  }).transform(Number);
}

function boolean() {
  return z.stringbool({ truthy: ['true', '1'], falsy: ['false', '0'], error: 'must be true or false (or 1 or 0)' });
}

function oneOf<const T extends readonly [string, ...string[]]>(values: T) {
  return z.enum(values, { error: `must be one of ${values.join(', ')}` });
}

function tokens() {
  return checked((text) => tokensFault(text.split(','), limits.tokenCharacters, limits.tokenCharactersMost)).transform(
    (text): string[] => text.split(','),
  );
}

const HOUR_MS = 3_600_000;

/** Every variable there is. `.env.example` and `docs/configuration.md` are held to it by a test. */
const schema = z.object({
  LOOM_PG_URL: checked(postgresUrlFault).meta({
    secret: true,
    description:
      'Where PostgreSQL is: postgres://user:password@host:5432/database. Of query parameters it takes application_name, host (a socket directory) and options.',
  }),
  LOOM_ADMIN_TOKEN: tokens().meta({
    secret: true,
    description: `Opens every route. At least ${limits.tokenCharacters} printable ASCII characters; two tokens, separated by a comma, while one replaces the other.`,
  }),
  LOOM_CLIENT_TOKEN: tokens().optional().meta({
    secret: true,
    description:
      'Opens the routes for documents, state and audit only. Same form as LOOM_ADMIN_TOKEN, and other values. Unset: only the admin token opens anything.',
  }),
  LOOM_PG_STATE_KEY: checked((text) => stateKeyFault(text, limits.stateKeyBytes))
    .default('default')
    .meta({ description: `Names the state that this node serves: 1 to ${limits.stateKeyBytes} bytes.` }),
  LOOM_PG_POOL_MAX: integer(2, 200).default(10).meta({
    description: 'Most connections of the node to PostgreSQL, besides the one that watches the database: 2 to 200.',
  }),
  LOOM_PG_IDLE_TIMEOUT_MS: integer(1_000, 24 * HOUR_MS)
    .default(30_000)
    .meta({ description: 'A connection without work is closed after this long: 1000 to 86400000 milliseconds.' }),
  LOOM_PG_CONNECT_TIMEOUT_MS: integer(100, 60_000)
    .default(5_000)
    .meta({ description: 'How long to wait for a connection, new or free: 100 to 60000 milliseconds.' }),
  LOOM_PG_SSL: boolean()
    .default(false)
    .meta({ description: 'Whether to speak TLS with PostgreSQL, and nothing else. Checks certificate and host name.' }),
  LOOM_PG_SSL_REJECT_UNAUTHORIZED: boolean().default(true).meta({
    description:
      'With false, any certificate will do: encrypted, but without knowing to whom. For LOOM_PG_SSL=true only.',
  }),
  LOOM_PG_SSL_CA: z.string().optional().meta({
    description:
      'Whom to trust instead of the authorities that Node knows: path of a PEM file, or the PEM text itself. For LOOM_PG_SSL=true only.',
  }),
  LOOM_HOST: checked(hostFault)
    .default('127.0.0.1')
    .meta({ description: 'Address to listen on; 0.0.0.0 or :: for all.' }),
  LOOM_PORT: integer(0, 65_535).default(8787).meta({ description: 'Port to listen on; 0 takes a free one.' }),
  LOOM_TRUST_PROXY: boolean().default(false).meta({
    description:
      'Whether to believe X-Forwarded-For about who is calling. Only behind a proxy that sets it: otherwise anyone can pose as anyone to the limit on wrong tokens.',
  }),
  LOOM_METRICS_PUBLIC: boolean().default(false).meta({ description: 'Whether GET /metrics answers without a token.' }),
  LOOM_LOG_LEVEL: oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
    .default('info')
    .meta({ description: 'What to log: fatal, error, warn, info, debug, trace, or silent for nothing.' }),
  LOOM_SHUTDOWN_DELAY_MS: integer(0, HOUR_MS).default(0).meta({
    description:
      'After SIGTERM /ready says draining, but requests are served for this long, so that a load balancer can notice: 0 to 3600000 milliseconds. On Kubernetes 5000 is a good start.',
  }),
  LOOM_SHUTDOWN_TIMEOUT_MS: integer(0, HOUR_MS).default(30_000).meta({
    description:
      'How long open requests may take to finish after that, before they are cut off: 0 to 3600000 milliseconds.',
  }),
  LOOM_MIGRATE: oneOf(['auto', 'manual']).default('auto').meta({
    description:
      'auto: the node applies pending migrations when it starts. manual: it waits until `migrate` has been run.',
  }),
  LOOM_MAX_DOCUMENT_BYTES: integer(1_024, limits.documentBytesMost)
    .default(limits.documentBytes)
    .meta({
      description: `Largest document that is accepted: 1024 to ${limits.documentBytesMost} bytes of canonical text.`,
    }),
});

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
