import { z } from 'zod';
import { stateKeyFault } from '../domain/state.ts';
import { limits } from '../limits.ts';
import { hostFault, nodeUrlFault, parseTrustProxy, postgresUrlFault, tokensFault, withoutBrackets } from './checks.ts';
import {
  endpointFault,
  identityFault,
  keepFault,
  parseStoreAddress,
  pingUrlFault,
  recipientsFault,
  STORE_FORM,
  scheduleFault,
  splitRecipients,
} from './stored-backups.ts';

type Check = (text: string) => string | undefined;

function checked(check: Check): z.ZodType<string, string> {
  return z.string({ error: 'is required' }).check((context) => {
    const fault = check(context.value);
    if (fault !== undefined) context.issues.push({ code: 'custom', message: fault, input: undefined });
  });
}

function integer(min: number, max: number) {
  const expected = `must be a whole number from ${min} to ${max}`;
  return checked((text) => {
    const inRange = /^\d{1,15}$/.test(text) && Number(text) >= min && Number(text) <= max;
    return inRange ? undefined : expected;
  }).transform(Number);
}

function boolean() {
  return z.stringbool({ truthy: ['true', '1'], falsy: ['false', '0'], error: 'must be true or false (or 1 or 0)' });
}

function trustedProxies() {
  const expected =
    'must be false, true, a number of proxies up to 32, or a list of addresses, networks such as 10.0.0.0/8, loopback, linklocal and uniquelocal';
  return z.string().transform((text, context) => {
    const proxies = parseTrustProxy(text);
    const isValid = typeof proxies === 'number' ? proxies <= limits.maxForwardedAddresses : proxies !== undefined;
    if (isValid && proxies !== undefined) return proxies;
    context.issues.push({ code: 'custom', message: expected, input: undefined });
    return z.NEVER;
  });
}

function storeAddress() {
  return z.string().transform((text, context) => {
    const store = parseStoreAddress(text);
    if (store !== undefined) return store;
    context.issues.push({ code: 'custom', message: STORE_FORM, input: undefined });
    return z.NEVER;
  });
}

/** Accepts a name or secret of a service, such as an access key. */
function word() {
  return checked((text) =>
    /^[\x21-\x7e]+$/.test(text) ? undefined : 'must have only printable ASCII characters, without spaces',
  );
}

function oneOf<const T extends readonly [string, ...string[]]>(values: T) {
  return z.enum(values, { error: `must be one of ${values.join(', ')}` });
}

function tokens() {
  return checked((text) =>
    tokensFault(text.split(','), limits.minTokenCharacters, limits.maxTokenCharacters),
  ).transform((text): string[] => text.split(','));
}

const HOUR_MS = 3_600_000;

/** Defines every variable. A test compares `.env.example` and `docs/configuration.md` with it. */
export const schema = z.object({
  LOOM_PG_URL: checked(postgresUrlFault).meta({
    secret: true,
    description:
      'Address of the database: postgres://user:password@host:5432/database, or with several hosts host1:5432,host2:5432. Allowed query parameters: application_name, host (also a socket directory), port, options and target_session_attrs (any, read-write or primary).',
  }),
  LOOM_ADMIN_TOKEN: tokens().meta({
    secret: true,
    description: `Token for every route, of at least ${limits.minTokenCharacters} printable ASCII characters. During a rotation: two tokens, separated by a comma.`,
  }),
  LOOM_CLIENT_TOKEN: tokens().optional().meta({
    secret: true,
    description:
      'Token for the routes of documents, state and audit only. Same form as LOOM_ADMIN_TOKEN, different value. If unset, only the admin token opens routes.',
  }),
  LOOM_METRICS_TOKEN: tokens().optional().meta({
    secret: true,
    description:
      'Token for GET /metrics only. Same form as LOOM_ADMIN_TOKEN, different value. If unset, the admin token opens it.',
  }),
  LOOM_PG_STATE_KEY: checked((text) => stateKeyFault(text))
    .default('default')
    .meta({ description: `Name of the state that this node serves: 1 to ${limits.maxStateKeyBytes} bytes.` }),
  LOOM_PG_POOL_MAX: integer(3, 200).default(10).meta({
    description: "Maximum number of connections to PostgreSQL, in addition to the probe's: 3 to 200.",
  }),
  LOOM_PG_STREAMS_MAX: integer(1, 198).optional().meta({
    description:
      'Maximum number of these connections that streams use together (reads of the whole state or trail, backups, restores, undos, verifications): 1 to LOOM_PG_POOL_MAX - 2. If unset: half of LOOM_PG_POOL_MAX, but at most LOOM_PG_POOL_MAX - 2.',
  }),
  LOOM_PG_IDLE_TIMEOUT_MS: integer(1_000, 24 * HOUR_MS)
    .default(30_000)
    .meta({ description: 'Time after which an idle connection is closed: 1000 to 86400000 milliseconds.' }),
  LOOM_PG_CONNECT_TIMEOUT_MS: integer(100, 60_000)
    .default(5_000)
    .meta({ description: 'Time to wait for a new or free connection: 100 to 60000 milliseconds.' }),
  LOOM_PG_SSL: boolean().default(false).meta({
    description: 'true: the node connects to PostgreSQL only with TLS, and verifies the certificate and the host name.',
  }),
  LOOM_PG_SSL_REJECT_UNAUTHORIZED: boolean().default(true).meta({
    description:
      'false: the node accepts any certificate, so the connection is encrypted but the server is not verified. Only with LOOM_PG_SSL=true.',
  }),
  LOOM_PG_SSL_CA: z.string().optional().meta({
    description:
      'Certificate authorities to trust instead of those that come with Node: path of a PEM file, or the PEM text itself. Only with LOOM_PG_SSL=true.',
  }),
  LOOM_HOST: checked(hostFault)
    .transform(withoutBrackets)
    .default('127.0.0.1')
    .meta({ description: 'Address to listen on; 0.0.0.0 or :: for all addresses.' }),
  LOOM_PORT: integer(0, 65_535).default(8787).meta({ description: 'Port to listen on; 0 for any free port.' }),
  LOOM_URL: checked(nodeUrlFault).optional().meta({
    description:
      'Address of the node for the client commands: http://host:8787, or https. If unset: this machine, at LOOM_HOST and LOOM_PORT. The node itself ignores it.',
  }),
  LOOM_TRUST_PROXY: trustedProxies().default(false).meta({
    description:
      'Proxies whose X-Forwarded-For names the client: false for none, true for one, a number of them, or a list of their addresses and networks, such as loopback,10.0.0.0/8. With a number, let no client reach the node past the proxies: it could forge its address to evade the limit on wrong tokens.',
  }),
  LOOM_MAX_CONNECTIONS: integer(limits.minConnections, 100_000)
    .optional()
    .meta({
      description: `Maximum number of connections of clients: ${limits.minConnections} to 100000. If unset: ${limits.maxConnections}, or what the limit of open files allows if that is less.`,
    }),
  LOOM_METRICS_PUBLIC: boolean().default(false).meta({ description: 'true: GET /metrics needs no token.' }),
  LOOM_LOG_LEVEL: oneOf(['fatal', 'error', 'warn', 'info', 'debug', 'trace', 'silent'])
    .default('info')
    .meta({ description: 'Least severe level to log: fatal, error, warn, info, debug or trace; silent for no log.' }),
  LOOM_SHUTDOWN_DELAY_MS: integer(0, HOUR_MS).default(0).meta({
    description:
      'Time after SIGTERM in which /ready answers draining but requests are still served, so that a load balancer can react: 0 to 3600000 milliseconds. On Kubernetes, start with 5000.',
  }),
  LOOM_SHUTDOWN_TIMEOUT_MS: integer(0, HOUR_MS).default(30_000).meta({
    description:
      'Time after that delay in which open requests can finish before they are aborted: 0 to 3600000 milliseconds.',
  }),
  LOOM_MIGRATE: oneOf(['auto', 'manual']).default('auto').meta({
    description:
      'auto: the node applies pending migrations at start. manual: the node waits until the command `migrate` has run.',
  }),
  LOOM_MAX_DOCUMENT_BYTES: integer(1_024, limits.maxConfigurableDocumentBytes)
    .default(limits.maxDocumentBytes)
    .meta({
      description: `Maximum size of a document: 1024 to ${limits.maxConfigurableDocumentBytes} bytes of canonical text.`,
    }),
  LOOM_BACKUP_STORE: storeAddress().optional().meta({
    description:
      'Where the node stores the backups that it takes by itself: file:///var/lib/loom/backups for a folder, or s3://bucket/prefix. If unset, it takes none.',
  }),
  LOOM_BACKUP_SCHEDULE: checked(scheduleFault).default('0 * * * *').meta({
    description: 'When to take a backup: a cron expression in UTC.',
  }),
  LOOM_BACKUP_KEEP: checked(keepFault).default('last=24,daily=14,weekly=8,monthly=12').meta({
    description: 'How many proven backups to keep. all: the node deletes none.',
  }),
  LOOM_BACKUP_S3_ENDPOINT: checked(endpointFault).optional().meta({
    description: 'Address of the S3 service, such as https://minio.example:9000. If unset: AWS.',
  }),
  LOOM_BACKUP_S3_REGION: word().optional().meta({
    description: 'Region of the bucket. If unset: the region that the AWS SDK finds, or us-east-1 with an endpoint.',
  }),
  LOOM_BACKUP_S3_ACCESS_KEY_ID: word().optional().meta({
    description: 'Access key of the S3 service. If unset: what the AWS SDK finds, such as the role of the machine.',
  }),
  LOOM_BACKUP_S3_SECRET_ACCESS_KEY: word().optional().meta({
    secret: true,
    description: 'Secret of LOOM_BACKUP_S3_ACCESS_KEY_ID. Set both or neither.',
  }),
  LOOM_BACKUP_RECIPIENTS: checked(recipientsFault).transform(splitRecipients).optional().meta({
    description:
      'Encrypts backups to these age public keys (age1…), separated by commas or spaces. If unset, backups are in plain text. It cannot be empty.',
  }),
  LOOM_BACKUP_IDENTITY: checked(identityFault).optional().meta({
    secret: true,
    description:
      'The age identity (AGE-SECRET-KEY-1…) with which the node decrypts stored backups, for drills and restores. If unset, drills of encrypted backups only compare the stored bytes. The commands verify, inspect, restore and drill also read it.',
  }),
  LOOM_BACKUP_PING_URL: checked(pingUrlFault).optional().meta({
    secret: true,
    description:
      'URL that the node requests after each proven run, and with /fail at the end of its path after a failed one, so that a service elsewhere notices when they stop.',
  }),
  LOOM_DRILL_SCHEDULE: checked(scheduleFault).default('0 3 * * *').meta({
    description: 'When to prove an older stored backup again, the one with the oldest proof: a cron expression in UTC.',
  }),
});
