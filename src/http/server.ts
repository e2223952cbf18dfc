/**
 * Serves LOOM over HTTP: turns requests into calls of the `Store`, and their results into answers.
 *
 * May import `domain`, `json`, `backup`, `errors`, `limits`, `log`, `metrics` and the types of `config`. Must not know
 * `persistence`, SQL or the environment: `node.ts` passes in everything else. No other room imports Fastify.
 *
 * `plugins/` acts on every request, `routes/` has one file per resource, `request/` reads requests, `reply/` writes
 * answers, and `client/` calls a node. Only this file sees every setting. Each plugin and route gets just what it uses.
 */
import type { Server as NetServer } from 'node:net';
import { type FastifyBaseLogger, type FastifyInstance, fastify, LogController } from 'fastify';
import type { Config } from '../config/config.ts';
import { createMemoryBudgets, type MemoryBudgets } from '../domain/memory.ts';
import { limits } from '../limits.ts';
import { trackConnections } from './connections.ts';
import { listenOnFurtherAddresses } from './further-addresses.ts';
import { LazyLog } from './lazy-log.ts';
import { createNodeServer } from './node-server.ts';
import { describePace } from './pace.ts';
import { createParserErrorHandler } from './parser-errors.ts';
import type { ReportFailure } from './plugins/error-handler.ts';
import { registerPlugins } from './plugins/plugins.ts';
import { answerFrameworkError, toOriginForm } from './plugins/request-head.ts';
import { type AnswerProbe, createProbeLane } from './probe-lane.ts';
import { toJsonLine } from './reply/json.ts';
import { createAddressReader } from './request/client-address.ts';
import { requestIdOf } from './request/request-id.ts';
import { RequestOrder } from './request-order.ts';
import { type RouteParts, registerRoutes } from './routes/routes.ts';
import { type CloseOptions, closeServer } from './shutdown.ts';
import { createSampledReader, createTimedReader } from './timed-reader.ts';

export interface ServerOptions
  extends Omit<
    RouteParts,
    'paceWindowMs' | 'metricsPublic' | 'peekHead' | 'peekStoredBackups' | 'memory' | 'connections' | 'routes'
  > {
  http: Config['http'];
  tokens: Config['tokens'];
  /** Logs why a request failed with a status of 500 or above. */
  reportFailure?: ReportFailure;
  /** Milliseconds over which a client must reach the minimum rate; by default `limits.clientPaceWindowMs`. */
  paceWindowMs?: number;
  /** Shared with the store, whose streams are answers, too. */
  memory?: MemoryBudgets;
  /** Milliseconds for the headers of a request; by default `limits.headersTimeoutMs`. */
  headersTimeoutMs?: number;
  /** Milliseconds until a connection without a byte is closed; by default `limits.silentTimeoutMs`. */
  silentTimeoutMs?: number;
  /** See `chooseMaxConnections`. */
  maxConnections?: number;
}

export type HttpServer = ReturnType<typeof createServer>;

/** Builds the server without listening. */
export function createServer(options: ServerOptions) {
  const {
    http,
    tokens,
    reportFailure = () => undefined,
    paceWindowMs = limits.clientPaceWindowMs,
    memory = createMemoryBudgets(() => performance.now()),
    maxConnections = limits.maxConnections,
    headersTimeoutMs = limits.headersTimeoutMs,
    silentTimeoutMs = limits.silentTimeoutMs,
    ...parts
  } = options;
  const { store, storedBackups, readiness, log, metrics } = parts;
  const readHead = createTimedReader(() => store.observeHead());
  const peekHead = () => readHead().catch(() => undefined);
  const app = createApp({ log, metrics, headersTimeoutMs, answerProbe: (...probe) => answerProbe(...probe) });
  let closing = false;
  let further: NetServer[] = [];
  const isDraining = () => closing || readiness().checks.http === 'draining';
  const connections = trackConnections(app.server, {
    maxConnections,
    silentTimeoutMs,
    paceWindowMs,
    onSlowClient: (remoteAddress) =>
      log.warn({ remoteAddress }, `client too slow, connection reset: it took ${describePace(paceWindowMs)}`),
    isDraining,
  });
  const answerProbe = createProbeLane({ readiness, isDraining, isExtra: connections.isExtra, log, metrics });
  const readSizes = createSampledReader(
    createTimedReader(() => store.readSizes()),
    limits.sizesIntervalMs,
  );
  const readStoredBackups = storedBackups && createTimedReader(() => storedBackups.observe());
  const peekStoredBackups = async () => await readStoredBackups?.().catch(() => undefined);
  metrics.watch({
    observe: store.observe,
    readiness,
    readHead: peekHead,
    readSizes,
    ...(readStoredBackups === undefined ? {} : { readStoredBackups: peekStoredBackups }),
  });

  const { routes, refuse } = registerPlugins(app, {
    tokens,
    readiness,
    isClosing: () => closing,
    isDraining,
    log,
    metrics,
    readAddress: createAddressReader(http.trustProxy),
    reportFailure,
    memory,
    connections,
  });
  registerRoutes(app, {
    ...parts,
    metricsPublic: http.metricsPublic,
    paceWindowMs,
    peekHead,
    peekStoredBackups,
    memory,
    connections: connections.count,
    routes,
  });

  return {
    /** Lets tests send requests with `inject`, without a socket. */
    app,
    /** Lists every route, so that tests can compare them with the docs and call each of them. */
    routes,
    /** Listens on the configured host and port. Resolves with the address and the actual port. */
    listen: async () => {
      const url = await app.listen({ host: http.host, port: http.port });
      further = await listenOnFurtherAddresses(app.server, http.host);
      const address = app.server.address();
      if (address === null || typeof address === 'string') throw new Error('a listening server has a port');
      return { host: http.host, port: address.port, url };
    },
    /** Stops accepting connections, and closes the open ones, see `closeServer`. */
    close: async (closeOptions: CloseOptions = {}): Promise<void> => {
      closing = true;
      await closeServer(app, { connections, further, refuse, ...closeOptions });
    },
  };
}

interface AppOptions extends Pick<RouteParts, 'log' | 'metrics'> {
  headersTimeoutMs: number;
  answerProbe: AnswerProbe;
}

function createApp({ log, metrics, headersTimeoutMs, answerProbe }: AppOptions): FastifyInstance {
  const loggerInstance: FastifyBaseLogger = log;
  const order = new RequestOrder((socket) => {
    log.warn({ req: { ip: socket.remoteAddress } }, 'connection cut off: too many pipelined requests are waiting');
  });
  const app = fastify({
    loggerInstance,
    serverFactory: (handle) => createNodeServer(handle, { order, headersTimeoutMs, answerProbe }),
    // `plugins/request-log.ts` logs requests, without their queries.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    childLoggerFactory: (logger, bindings) => new LazyLog(logger, bindings),
    genReqId: requestIdOf,
    rewriteUrl: toOriginForm,
    // Closing ends idle connections at once, and lets requests in flight finish.
    forceCloseConnections: 'idle',
    // While the server closes, `plugins/gate.ts` refuses requests on open connections with a problem body.
    return503OnClosing: false,
    routerOptions: {
      maxParamLength: limits.maxRouteParameterCharacters,
      // The router would parse every query, without a bound, before authentication. LOOM parses the URL itself.
      querystringParser: () => ({}),
    },
    frameworkErrors: answerFrameworkError,
    clientErrorHandler: createParserErrorHandler({ order, log, metrics }),
  });
  app.setReplySerializer(toJsonLine);
  // Bodies stay in the socket until a route reads them: JSON.parse rounds numbers, and a parser may refuse `__proto__`.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  // A DELETE has no body, so its content-type means nothing. Fastify would refuse a malformed one.
  app.addHttpMethod('DELETE', { hasBody: false, overrideExisting: true });
  return app;
}
