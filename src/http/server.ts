import { randomUUID } from 'node:crypto';
import { type FastifyBaseLogger, type FastifyInstance, fastify, LogController } from 'fastify';
import { limits } from '../limits.ts';
import { trackConnections } from './connections.ts';
import type { RouteContext, ServerOptions } from './context.ts';
import { registerAuthentication } from './plugins/authentication.ts';
import { registerGate } from './plugins/gate.ts';
import { registerLinger } from './plugins/linger.ts';
import { type RouteTable, registerRouteTable } from './plugins/method.ts';
import { answerClientError, answerFrameworkError, registerProblems } from './plugins/problem.ts';
import { registerRequestId, requestIdOf } from './plugins/request-id.ts';
import { registerRequestLog } from './plugins/request-log.ts';
import { registerAudit } from './routes/audit.ts';
import { registerBackup } from './routes/backup.ts';
import { registerDocuments } from './routes/documents.ts';
import { registerMetrics } from './routes/metrics.ts';
import { registerProbes } from './routes/probes.ts';
import { registerRestore } from './routes/restore.ts';
import { registerSchema } from './routes/schema.ts';
import { registerScratch } from './routes/scratch.ts';
import { registerState } from './routes/state.ts';
import { registerStatus } from './routes/status.ts';
import { registerUndo } from './routes/undo.ts';
import { createTimedReader } from './timed-reader.ts';

export interface HttpServer {
  /** For tests: `app.inject(…)`. */
  app: FastifyInstance;
  /** Every route with its method and access, for tests and docs. */
  routes: RouteTable['routes'];
  /** Listens on the configured host and port; resolves with the address, the port being a real one. */
  listen(): Promise<{ host: string; port: number; url: string }>;
  /** Takes no new connections, lets open requests finish, cuts them off after `timeoutMs`. */
  close(options?: { timeoutMs?: number }): Promise<void>;
}

/** Builds the HTTP side without listening. */
export function createServer(options: ServerOptions): HttpServer {
  const { config, store, readiness, log, metrics, createRequestId = randomUUID } = options;
  const head = createTimedReader(() => store.readHead());
  const context: RouteContext = {
    ...options,
    now: options.now ?? (() => new Date()),
    createRequestId,
    bodyIdleTimeoutMs: options.bodyIdleTimeoutMs ?? limits.bodyIdleTimeoutMs,
    peekHead: () => head().catch(() => undefined),
  };
  const app = createApp(context);
  const connections = trackConnections(app.server);
  let closing = false;
  metrics.watch({ observe: store.observe, readiness, readHead: context.peekHead });

  registerRequestId(app);
  registerRequestLog(app, { log, metrics });
  registerProblems(app);
  registerLinger(app);
  registerAuthentication(app, config.tokens);
  registerGate(app, { readiness, isClosing: () => closing });
  const { routes } = registerRouteTable(app);
  for (const register of allRoutes) register(app, context);

  return {
    app,
    routes,
    listen: async () => {
      const { host } = config.http;
      const url = await app.listen({ host, port: config.http.port });
      const address = app.server.address();
      if (address === null || typeof address === 'string') throw new Error('a server that listens has a port');
      return { host, port: address.port, url };
    },
    close: async ({ timeoutMs } = {}) => {
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

const allRoutes: ((app: FastifyInstance, context: RouteContext) => void)[] = [
  registerProbes,
  registerMetrics,
  registerDocuments,
  registerState,
  registerAudit,
  registerStatus,
  registerSchema,
  registerBackup,
  registerRestore,
  registerUndo,
  registerScratch,
];

function createApp({ config, log, createRequestId }: RouteContext): FastifyInstance {
  const loggerInstance: FastifyBaseLogger = log;
  const app = fastify({
    loggerInstance,
    // There is a request log of our own, without queries.
    logController: new LogController({ disableRequestLogging: true, requestIdLogLabel: 'requestId' }),
    trustProxy: config.http.trustProxy,
    genReqId: (request) => requestIdOf(request, createRequestId),
    // Idle connections end with the server, and requests that are under way do not.
    forceCloseConnections: 'idle',
    // A request that comes on an open connection meanwhile gets our own answer, see the gate.
    return503OnClosing: false,
    keepAliveTimeout: limits.keepAliveTimeoutMs,
    http: { headersTimeout: limits.headersTimeoutMs },
    routerOptions: { maxParamLength: limits.maxRouteParameterCharacters },
    frameworkErrors: answerFrameworkError,
    clientErrorHandler: (error, socket) => answerClientError(error, socket, createRequestId),
  });
  // Bodies stay in the socket until a route reads them: JSON.parse would round numbers, and drop or refuse `__proto__`.
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', (_request, _payload, done) => done(null));
  return app;
}
