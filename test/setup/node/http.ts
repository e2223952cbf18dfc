import { PassThrough } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import type { InjectOptions } from 'fastify';
import type { Pool } from 'pg';
import { type Config, parseConfig } from '../../../src/config/config.ts';
import { type Readiness, readinessOf } from '../../../src/domain/health/readiness.ts';
import { createMemoryBudgets } from '../../../src/domain/memory.ts';
import type { Store } from '../../../src/domain/store.ts';
import { createServer, type HttpServer, type ServerOptions } from '../../../src/http/server.ts';
import { createLogger } from '../../../src/log.ts';
import { createMetrics } from '../../../src/metrics.ts';
import { createOperations } from '../../../src/persistence/activity/operations.ts';
import { openDatabase } from '../../../src/persistence/connection/database.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { ensureState } from '../../../src/persistence/state/state-row.ts';
import { createStore } from '../../../src/persistence/store.ts';
import { nodeUrl } from '../roles/node-url.ts';
import { createTestDatabase, type TestDatabase } from '../server/database.ts';
import { assertDescribed } from './described.ts';

export const ADMIN_TOKEN = 'admin-token-of-the-tests';
export const CLIENT_TOKEN = 'client-token-of-the-tests';
export const asAdmin = { 'x-loom-admin-token': ADMIN_TOKEN };
export const asClient = { authorization: `Bearer ${CLIENT_TOKEN}` };
export const json = { 'content-type': 'application/json' };
export const mergePatch = { 'content-type': 'application/merge-patch+json' };

export const readyNow: Readiness = { ok: true, checks: { http: 'ok', database: 'ok', schema: 'ok' } };

export function testConfig(url: string, more: Record<string, string> = {}): Config {
  const env = {
    LOOM_PG_URL: nodeUrl(url),
    LOOM_ADMIN_TOKEN: ADMIN_TOKEN,
    LOOM_CLIENT_TOKEN: CLIENT_TOKEN,
    LOOM_PORT: '0',
    LOOM_LOG_LEVEL: 'trace',
    ...more,
  };
  return parseConfig(env, {
    readFile: () => {
      throw new Error('this configuration names no file');
    },
  });
}

/** The lines that the server has logged. */
export interface LogLines {
  text(): string;
}

export interface BareServer extends HttpServer {
  logged: LogLines;
  /** Replaces the readiness that `/ready` reports and the gate checks. */
  setReadiness(readiness: Readiness): void;
}

/** Names what a test may set: bounds that take too long to reach otherwise, and stored backups. */
type ServerBounds =
  | 'paceWindowMs'
  | 'headersTimeoutMs'
  | 'silentTimeoutMs'
  | 'maxConnections'
  | 'memory'
  | 'storedBackups';

/** Creates the HTTP server on any store. */
export function createBareServer(
  store: Store,
  config: Config,
  more: Partial<Pick<ServerOptions, ServerBounds | 'metrics'>> = {},
): BareServer {
  let readiness = readyNow;
  const stream = new PassThrough();
  const lines: string[] = [];
  stream.on('data', (chunk: Buffer) => lines.push(chunk.toString('utf8')));
  const metrics = more.metrics ?? createMetrics();
  const server = createServer({
    http: config.http,
    tokens: config.tokens,
    stateKey: config.postgres.stateKey,
    maxDocumentBytes: config.maxDocumentBytes,
    store,
    readiness: () => readiness,
    node: { version: '0.0.0-test', startedAt: new Date(), supportedSchemaVersion: CURRENT_SCHEMA_VERSION },
    log: createLogger({ level: config.log.level, stream }),
    ...more,
    metrics,
  });
  return {
    ...server,
    logged: { text: () => lines.join('') },
    setReadiness: (next) => {
      readiness = next;
    },
    close: async (options) => {
      await server.close(options);
      metrics.close();
    },
  };
}

export interface TestServer extends BareServer {
  store: Store;
  database: TestDatabase;
  pool: Pool;
  /** Sends a request. By default, it has the client token and the content-type `application/json`. */
  request(method: NonNullable<InjectOptions['method']>, url: string, more?: RequestMore): Promise<TestResponse>;
}

export interface RequestMore {
  headers?: Record<string, string>;
  body?: string | Buffer;
}

export interface TestResponse {
  status: number;
  headers: Record<string, string | string[] | number | undefined>;
  text: string;
  /** Parses the body. Throws if it is not JSON. */
  json: () => ReturnType<typeof JSON.parse>;
}

/** Creates a node without its probe: HTTP server and store on a new database. */
export async function createTestServer(
  env: Record<string, string> = {},
  more: Partial<Pick<ServerOptions, ServerBounds>> = {},
): Promise<TestServer> {
  const database = await createTestDatabase();
  const config = testConfig(database.url, env);
  const metrics = createMetrics();
  const nodeDatabase = openDatabase(config.postgres, {
    log: createLogger({ level: 'silent' }),
    applicationName: 'loom test',
  });
  await ensureState(nodeDatabase, config.postgres.stateKey);
  const memory = more.memory ?? createMemoryBudgets(() => performance.now());
  const store = createStore({
    database: nodeDatabase,
    memory: memory.answers,
    stateKey: config.postgres.stateKey,
    maxDocumentBytes: config.maxDocumentBytes,
    migrations: await loadMigrations(),
    operations: createOperations(),
    onBatch: metrics.countBatch,
  });
  const server = createBareServer(store, config, { ...more, memory, metrics });
  return {
    ...server,
    store,
    database,
    pool: database.pool,
    request: (method, url, { headers = {}, body } = {}) =>
      inject(server, {
        method,
        url,
        headers: { ...('x-loom-admin-token' in headers ? {} : asClient), ...json, ...headers },
        ...(body === undefined ? {} : { body }),
      }),
    close: async (options) => {
      await server.close(options);
      await store.close();
      await nodeDatabase.close({ deadlineMs: 5_000 });
      await database.drop();
    },
  };
}

/** Sends a request without a socket, and checks that docs/openapi.json describes the answer. */
export async function inject(server: Pick<HttpServer, 'app'>, options: InjectOptions): Promise<TestResponse> {
  const response = await server.app.inject(options);
  const { method = 'GET', url } = options;
  const { statusCode: status, headers, body, rawPayload } = response;
  const text = headers['content-encoding'] === 'gzip' ? gunzipSync(rawPayload).toString('utf8') : body;
  // As clients do, this removes the segments `.` and `..`.
  const { pathname, search } = new URL(String(url), 'http://node');
  assertDescribed({ method, url: `${pathname}${search}`, status, headers, text });
  return {
    status: response.statusCode,
    headers: response.headers,
    text: response.body,
    json: () => JSON.parse(response.body),
  };
}

/** Returns the readiness that the node derives from this verdict of the probe. */
export function readinessFor(
  database: 'ok' | 'unreachable' | 'slow' | 'starting',
  schema: 'ok' | 'behind' | 'ahead' | 'unknown',
  draining = false,
): Readiness {
  const reason =
    database === 'starting'
      ? 'starting'
      : database === 'unreachable'
        ? 'db_unreachable'
        : database === 'slow'
          ? 'db_slow'
          : schema === 'behind'
            ? 'schema_behind'
            : schema === 'ahead'
              ? 'schema_ahead'
              : undefined;
  const verdict = { ok: reason === undefined, database, schema, latencyMs: null };
  return readinessOf(reason === undefined ? verdict : { ...verdict, reason }, draining);
}
