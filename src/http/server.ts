/**
 * Serves LOOM over HTTP: turns requests into calls of the `Store`, and their results into answers.
 *
 * May import `domain`, `json`, `backup`, `errors`, `limits`, `log`, `metrics` and the types of `config`. Must not know
 * `persistence`, SQL or the environment: `node.ts` passes in everything else. No other room imports Fastify.
 *
 * `plugins/` acts on every request, `routes/` has one file per resource, `request/` reads requests, `reply/` writes
 * answers, and `client/` calls a node. Only this file sees every setting. Each plugin and route gets just what it uses.
 */
import { type FastifyBaseLogger, type FastifyInstance, fastify, LogController } from 'fastify';
import type { Config } from '../config/config.ts';
import { createMemoryBudgets, type MemoryBudgets } from '../domain/memory.ts';
import { limits } from '../limits.ts';
import { trackConnections } from './connections.ts';
import { describePace } from './pace.ts';
import { answerClientError, answerFrameworkError } from './plugins/error-handler.ts';
import { registerPlugins } from './plugins/plugins.ts';
import { readRequestId } from './plugins/request-id.ts';
import { toJsonLine } from './reply/json.ts';
import { type RouteParts, registerRoutes } from './routes/routes.ts';
import { createTimedReader } from './timed-reader.ts';

export interface ServerOptions
  extends Omit<RouteParts, 'paceWindowMs' | 'metricsPublic' | 'peekHead' | 'memory' | 'connections'> {
  http: Config['http'];
  tokens: Config['tokens'];
  /** Milliseconds over which a client must reach the minimum rate; by default `limits.clientPaceWindowMs`. */
  paceWindowMs?: number;
  /** Shared with the store, whose streams are answers, too. */
  memory?: MemoryBudgets;
  /** Milliseconds for the headers of a request; by default `limits.headersTimeoutMs`. */
  headersTimeoutMs?: number;
  /** See `chooseMaxConnections`. */
  maxConnections?: number;
}

export type HttpServer = ReturnType<typeof createServer>;

/** Builds the server without listening. */
export function createServer(options: ServerOptions) {
  const {
    http,
    tokens,
    paceWindowMs = limits.clientPaceWindowMs,
    memory = createMemoryBudgets(() => performance.now()),
    maxConnections = limits.maxConnections,
    headersTimeoutMs = limits.headersTimeoutMs,
    ...parts
  } = options;
  const { store, readiness, log, metrics } = parts;
  const readHead = createTimedReader(() => store.readHead());
  const peekHead = () => readHead().catch(() => undefined);
  const app = createApp(http, headersTimeoutMs, log);
  const connections = trackConnections(app.server, {
    maxConnections,
    paceWindowMs,
    onSlowClient: (remoteAddress) =>
      log.warn({ remoteAddress }, `client too slow, connection reset: it took ${describePace(paceWindowMs)}`),
  });
  let closing = false;
  metrics.watch({ observe: store.observe, readiness, readHead: peekHead });

  const isClosing = () => closing;
  const { routes } = registerPlugins(app, { tokens, readiness, isClosing, log, metrics, memory, connections });
  registerRoutes(app, {
    ...parts,
    metricsPublic: http.metricsPublic,
    paceWindowMs,
    peekHead,
    memory,
    connections: connections.count,
  });

  return {
    /** Lets tests send requests with `inject`, without a socket. */
    app,
    /** Lists every route, so that tests can compare them with the docs and call each of them. */
    routes,
    /** Listens on the configured host and port. Resolves with the address and the actual port. */
    listen: async () => {
      const url = await app.listen({ host: http.host, port: http.port });
      const address = app.server.address();
      if (address === null || typeof address === 'string') throw new Error('a listening server has a port');
      return { host: http.host, port: address.port, url };
    },
    /** Stops accepting connections, waits for open requests, and aborts them after `timeoutMs`. */
    close: async ({ timeoutMs }: { timeoutMs?: number } = {}): Promise<void> => {
      closing = true;
      const cutOff =
        timeoutMs === undefined ? undefined : setTimeout(() => app.server.closeAllConnections(), timeoutMs).unref();
      const closed = app.close();
      connections.closeWhenIdle();
      await closed;
      clearTimeout(cutOff);
    },
  };
}

function createApp(
  { trustProxy }: Config['http'],
  headersTimeout: number,
  loggerInstance: FastifyBaseLogger,
): FastifyInstance {
  const app = fastify({
    loggerInstance,
    // `plugins/request-log.ts` logs requests, without their queries.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    trustProxy,
    genReqId: readRequestId,
    // Closing ends idle connections at once, and lets requests in flight finish.
    forceCloseConnections: 'idle',
    // While the server closes, `plugins/gate.ts` refuses requests on open connections with a problem body.
    return503OnClosing: false,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    // Without this, Node looks for silent and slow clients only every 30 s.
    http: { headersTimeout, connectionsCheckingInterval: Math.min(limits.headersCheckMs, headersTimeout / 2) },
    routerOptions: { maxParamLength: limits.maxRouteParameterCharacters },
    frameworkErrors: answerFrameworkError,
    clientErrorHandler: answerClientError,
  });
  app.setReplySerializer(toJsonLine);
  // Bodies stay in the socket until a route reads them: JSON.parse rounds numbers, and a parser may refuse `__proto__`.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  return app;
}
