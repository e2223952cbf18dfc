import { z } from 'zod';
import { stateKeyFault } from '../domain/state.ts';
import { limits } from '../limits.ts';
import { hostFault, nodeUrlFault, postgresUrlFault, tokensFault } from './checks.ts';

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
  return checked((text) =>
    tokensFault(text.split(','), limits.minTokenCharacters, limits.maxTokenCharacters),
  ).transform((text): string[] => text.split(','));
}

const HOUR_MS = 3_600_000;

/** Every variable there is. `.env.example` and `docs/configuration.md` are held to it by a test. */
export const schema = z.object({
  LOOM_PG_URL: checked(postgresUrlFault).meta({
    secret: true,
    description:
      'Where PostgreSQL is: postgres://user:password@host:5432/database. Of query parameters it takes application_name, host (a socket directory) and options.',
  }),
  LOOM_ADMIN_TOKEN: tokens().meta({
    secret: true,
    description: `Opens every route. At least ${limits.minTokenCharacters} printable ASCII characters; two tokens, separated by a comma, while one replaces the other.`,
  }),
  LOOM_CLIENT_TOKEN: tokens().optional().meta({
    secret: true,
    description:
      'Opens the routes for documents, state and audit only. Same form as LOOM_ADMIN_TOKEN, and other values. Unset: only the admin token opens anything.',
  }),
  LOOM_PG_STATE_KEY: checked((text) => stateKeyFault(text))
    .default('default')
    .meta({ description: `Names the state that this node serves: 1 to ${limits.maxStateKeyBytes} bytes.` }),
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
  LOOM_URL: checked(nodeUrlFault).optional().meta({
    description:
      'Where the client commands find a node: http://host:8787, or https. Unset: on this machine, at LOOM_HOST and LOOM_PORT. A node itself has no use for it.',
  }),
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
  LOOM_MAX_DOCUMENT_BYTES: integer(1_024, limits.maxConfigurableDocumentBytes)
    .default(limits.maxDocumentBytes)
    .meta({
      description: `Largest document that is accepted: 1024 to ${limits.maxConfigurableDocumentBytes} bytes of canonical text.`,
    }),
});
