import type { Config } from '../config/config.ts';
import type { Readiness } from '../domain/readiness.ts';
import type { StateHead } from '../domain/state.ts';
import type { Store } from '../domain/store.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';

/** What does not change while a node runs. */
export interface NodeFacts {
  /** LOOM's own version. */
  version: string;
  startedAt: Date;
  /** The schema version that this node's code is written for. */
  supportedSchemaVersion: number;
}

/** What the HTTP side is made of; the composition root gives it. */
export interface ServerOptions {
  config: Config;
  store: Store;
  /** The last verdict; must be cheap and must not wait. */
  readiness: () => Readiness;
  node: NodeFacts;
  log: Log;
  metrics: Metrics;
  /** Wall clock. */
  now?: () => Date;
  createRequestId?: () => string;
  /** Silence in a request body after which it is given up; `limits.bodyIdleTimeoutMs` when left out. */
  bodyIdleTimeoutMs?: number;
}

/** What a route gets. */
export interface RouteContext extends Required<ServerOptions> {
  /** The head of the state, soon, or `undefined` when the database does not answer. */
  peekHead: () => Promise<StateHead | undefined>;
}
