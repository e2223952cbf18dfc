/**
 * Holds one file per resource. Each route reads its request, calls one verb of the `Store`, and answers.
 *
 * May import `domain`, `backup`, `json`, `errors`, `limits`, its neighbours `request/` and `reply/`, and the types
 * of `log` and `metrics`. Must not know the configuration or a token: this file gives each route only what it uses.
 */
import type { FastifyInstance } from 'fastify';
import type { StoredBackups, StoredBackupsObservation } from '../../domain/backup-run.ts';
import type { Readiness } from '../../domain/health/readiness.ts';
import type { MemoryBudgets } from '../../domain/memory.ts';
import type { ObservedHead } from '../../domain/state.ts';
import type { StatusReport } from '../../domain/status.ts';
import type { Store } from '../../domain/store.ts';
import type { Log } from '../../log.ts';
import type { Metrics } from '../../metrics.ts';
import type { RouteTable } from '../plugins/route-table.ts';
import { registerAudit } from './audit.ts';
import { registerBackup } from './backup.ts';
import { registerDocuments } from './documents.ts';
import { registerMetrics } from './metrics.ts';
import { registerOpenApi } from './openapi.ts';
import { registerProbes } from './probes.ts';
import { registerRestore } from './restore.ts';
import { registerSchema } from './schema.ts';
import { registerScratch } from './scratch.ts';
import { registerState } from './state.ts';
import { type NodeFacts, registerStatus } from './status.ts';
import { registerStoredBackups } from './stored-backups.ts';
import { registerUndo } from './undo.ts';

export interface RouteParts {
  store: Store;
  stateKey: string;
  maxDocumentBytes: number;
  paceWindowMs: number;
  metricsPublic: boolean;
  node: NodeFacts;
  /** Returns the last verdict, without waiting. */
  readiness: () => Readiness;
  /** Says why the node is not ready, for operators. */
  readinessDetail?: () => string | undefined;
  /** Reads the head of the state. Resolves with undefined if the database does not answer in time. */
  peekHead: () => Promise<ObservedHead | undefined>;
  /** Undefined without a backup store. */
  storedBackups?: StoredBackups | undefined;
  /** Observes the stored backups. Undefined without a store, or if the database does not answer in time. */
  peekStoredBackups: () => Promise<StoredBackupsObservation | undefined>;
  memory: MemoryBudgets;
  /** Counts the connections of clients. */
  connections: () => StatusReport['connections'];
  log: Log;
  metrics: Metrics;
  /** Lists every route, once all are registered. */
  routes: RouteTable['routes'];
}

export function registerRoutes(app: FastifyInstance, parts: RouteParts): void {
  const { store, stateKey, node, readiness, paceWindowMs } = parts;
  const bodyBounds = { maxDocumentBytes: parts.maxDocumentBytes, paceWindowMs };
  registerProbes(app, { readiness });
  registerMetrics(app, { metrics: parts.metrics, isPublic: parts.metricsPublic });
  registerDocuments(app, { store, bodyBounds });
  registerState(app, { store, bodyBounds });
  registerAudit(app, { store });
  registerStatus(app, parts);
  registerSchema(app, { store, stateKey, supportedSchemaVersion: node.supportedSchemaVersion });
  registerBackup(app, { store, stateKey, log: parts.log });
  registerRestore(app, { store, storedBackups: parts.storedBackups, paceWindowMs });
  registerUndo(app, { store, paceWindowMs });
  registerScratch(app, { store });
  registerStoredBackups(app, { storedBackups: parts.storedBackups, paceWindowMs });
  registerOpenApi(app, { routes: parts.routes, version: node.version });
}
