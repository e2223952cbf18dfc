/**
 * Serves LOOM over HTTP: turns requests into calls of the `Store`, and their results into answers.
 *
 * May import `domain`, `json`, `backup`, `errors`, `limits`, `log`, `metrics` and the types of `config`. Must not know
 * `persistence`, SQL or the environment: `node.ts` passes in everything else. No other room imports Fastify.
 *
 * `plugins/` acts on every request, `routes/` has one file per resource, `request/` reads requests, `reply/` writes
 * answers, and `client/` calls a node. Only this file sees every setting. Each plugin and route gets just what it uses.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { type FastifyBaseLogger, type FastifyInstance, fastify, LogController } from 'fastify';
import type { Config } from '../config/config.ts';
import { limits } from '../limits.ts';
import { trackConnections } from './connections.ts';
import { answerClientError, answerFrameworkError, type ReportFailure } from './plugins/error-handler.ts';
import { registerPlugins } from './plugins/plugins.ts';
import { readRequestId } from './plugins/request-id.ts';
import { toJsonLine } from './reply/json.ts';
import { type RouteParts, registerRoutes } from './routes/routes.ts';
import { createSampledReader, createTimedReader } from './timed-reader.ts';

export interface ServerOptions extends Omit<RouteParts, 'bodyIdleTimeoutMs' | 'metricsPublic' | 'peekHead'> {
  http: Config['http'];
  tokens: Config['tokens'];
  /** Milliseconds without a byte after which a request body times out; by default `limits.bodyIdleTimeoutMs`. */
  bodyIdleTimeoutMs?: number;
  /** Logs why a request failed with a status of 500 or above. */
  reportFailure?: ReportFailure;
}

export interface CloseOptions {
  /** Time for open requests to finish. Without it, the server waits for ever. */
  timeoutMs?: number;
  /** Called when the time is over: ends the work on open requests, so that they reject. */
  abandon?: () => Promise<void>;
}

export type HttpServer = ReturnType<typeof createServer>;

/** Builds the server without listening. */
export function createServer(options: ServerOptions) {
  const {
    http,
    tokens,
    bodyIdleTimeoutMs = limits.bodyIdleTimeoutMs,
    reportFailure = () => undefined,
    ...parts
  } = options;
  const { store, readiness, log, metrics } = parts;
  const readHead = createTimedReader(() => store.readHead());
  const peekHead = () => readHead().catch(() => undefined);
  const app = createApp(http, log);
  let closing = false;
  const isDraining = () => closing || readiness().checks.http === 'draining';
  const connections = trackConnections(app.server, isDraining);
  const readSizes = createSampledReader(
    createTimedReader(() => store.readSizes()),
    limits.sizesIntervalMs,
  );
  metrics.watch({ observe: store.observe, readiness, readHead: peekHead, readSizes });

  const { routes, refuse } = registerPlugins(app, {
    tokens,
    readiness,
    isClosing: () => closing,
    log,
    metrics,
    reportFailure,
  });
  registerRoutes(app, { ...parts, metricsPublic: http.metricsPublic, bodyIdleTimeoutMs, peekHead });

  /** Returns the time that the last answers take, so that the process ends on time even if thousands of commits wait. */
  function answersMs(timeoutMs: number): number {
    return Math.min(timeoutMs / 2, connections.openResponses().length * limits.lastAnswerMs);
  }

  /** Ends the work on open requests, and answers those that still wait. */
  async function answerRest(abandon: () => Promise<void>): Promise<void> {
    // The abandoned work rejects first: only it knows whether a commit was sent.
    await abandon();
    await sleep(limits.abandonedAnswerMs);
    refuse(connections.openResponses());
    await connections.empty(limits.lastAnswersMs);
  }

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
    /**
     * Stops accepting connections, and waits for open requests. After `timeoutMs`, calls `abandon`, which ends the work
     * on them, answers those that still wait, and closes their connections.
     */
    close: async ({ timeoutMs, abandon = async () => undefined }: CloseOptions = {}): Promise<void> => {
      closing = true;
      const startedMs = performance.now();
      const timeLeft = () => Math.max(0, (timeoutMs ?? 0) - (performance.now() - startedMs));
      await connections.closeWhenIdle();
      await connections.empty(timeoutMs === undefined ? undefined : timeLeft() - answersMs(timeoutMs));
      if (!connections.isEmpty()) {
        await Promise.race([answerRest(abandon), connections.empty(timeLeft() + limits.lateAnswersMs)]);
        connections.destroyAll();
      }
      await app.close();
    },
  };
}

function createApp({ trustProxy }: Config['http'], loggerInstance: FastifyBaseLogger): FastifyInstance {
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
    http: { headersTimeout: limits.headersTimeoutMs },
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
