/**
 * Acts on every request: identifies, logs, authenticates and gates it, and answers its errors.
 *
 * May import `domain`, `errors`, `limits`, its neighbours `request/`, `reply/` and `route-config.ts`, and the types of
 * `config`, `log`, `metrics` and `connections.ts`. Must not know any single route: `route-config.ts` says what differs.
 */
import type { FastifyInstance } from 'fastify';
import type { Config } from '../../config/config.ts';
import type { Readiness } from '../../domain/health/readiness.ts';
import type { MemoryBudgets } from '../../domain/memory.ts';
import type { Log } from '../../log.ts';
import type { Metrics } from '../../metrics.ts';
import type { Connections } from '../connections.ts';
import type { ReadAddress } from '../request/client-address.ts';
import { registerAuthentication } from './authentication.ts';
import { registerConnectionLimit } from './connection-limit.ts';
import { type ReportFailure, registerErrorHandler } from './error-handler.ts';
import { registerGate } from './gate.ts';
import { registerLinger } from './linger.ts';
import { registerMemory } from './memory.ts';
import { type OpenRequests, registerOpenRequests } from './open-requests.ts';
import { registerHeadCheck, registerRequestHead } from './request-head.ts';
import { registerRequestLog } from './request-log.ts';
import { type RouteTable, registerRouteTable } from './route-table.ts';

interface PluginParts {
  tokens: Config['tokens'];
  readiness: () => Readiness;
  isClosing: () => boolean;
  /** Whether clients should send their next requests to another node. */
  isDraining: () => boolean;
  log: Log;
  metrics: Pick<Metrics, 'countRequest'>;
  readAddress: ReadAddress;
  reportFailure: ReportFailure;
  memory: MemoryBudgets;
  connections: Connections;
}

/** Registers all plugins, in the order of their hooks. Call it before the first route is registered. */
export function registerPlugins(app: FastifyInstance, parts: PluginParts): RouteTable & OpenRequests {
  registerRequestHead(app, parts.readAddress);
  registerRequestLog(app, parts);
  const openRequests = registerOpenRequests(app);
  registerMemory(app, parts.memory);
  // After the memory, which turns long answers into streams that can fail.
  registerErrorHandler(app, parts.reportFailure);
  registerConnectionLimit(app, parts.connections);
  registerHeadCheck(app);
  registerLinger(app, parts.connections);
  registerAuthentication(app, parts.tokens);
  registerGate(app, parts);
  return { ...registerRouteTable(app), ...openRequests };
}
