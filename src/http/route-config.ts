/** Which token opens a route. An admin token opens client routes too. */
export type Access = 'none' | 'client' | 'admin';

/** What every route must say of itself; the server refuses to start with one that does not. */
export interface RouteConfig {
  access: Access;
  /** Whether the route answers 503 without touching the database while the node may not use it. */
  gated: boolean;
  /** Names of the query parameters that the route knows; `any` for probes, which are asked by all kinds of tools. */
  query: readonly string[] | 'any';
}

declare module 'fastify' {
  interface FastifyContextConfig extends Partial<RouteConfig> {}

  interface FastifyRequest {
    /** Who asks, by token; `undefined` on public routes. */
    actor: 'admin' | 'client' | undefined;
  }
}

/** A route of data: a token, and a database that may be used. */
export function dataRoute(access: 'client' | 'admin', query: readonly string[] = []): { config: RouteConfig } {
  return { config: { access, gated: true, query } };
}

/** A route that an operator needs most when the database is away. */
export function operatorRoute(access: Access, query: RouteConfig['query'] = []): { config: RouteConfig } {
  return { config: { access, gated: false, query } };
}
