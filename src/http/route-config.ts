import type { FastifyRequest } from 'fastify';
import type { MemoryShare } from '../domain/memory.ts';
import type { Admit } from '../domain/store.ts';
import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import type { Operation } from './openapi/operation.ts';

/** Names the kind of token that a route requires. An admin token opens every route. */
export type Access = 'none' | 'client' | 'metrics' | 'admin';

/** Describes a route to the plugins. Registering a route without it throws. */
export interface RouteConfig {
  access: Access;
  /** Whether the route answers 503 without a query while this node may not use its database. */
  gated: boolean;
  /** Names of the supported query parameters; `any` for probes, to which tools add parameters of their own. */
  query: readonly string[] | 'any';
  /** Describes requests and answers, for the OpenAPI document. */
  operation: Operation;
}

declare module 'fastify' {
  interface FastifyContextConfig extends Partial<RouteConfig> {}

  interface FastifyRequest {
    /** Set by authentication; `undefined` on public routes. */
    actor: 'admin' | 'client' | undefined;
    /** The name in `x-loom-actor`, set by authentication. */
    actorName: string | undefined;
    /** Set when the request is answered with a problem, for the log. */
    problemCode: string | undefined;
    /** The request's shares of the node's memory, see `plugins/memory.ts`. */
    memory: { readonly body: MemoryShare; readonly answer: MemoryShare };
    /** The address of the client, behind the proxies that the node trusts. */
    readonly clientAddress: string;
  }
}

const probes: ReadonlySet<string | undefined> = new Set(['/live', '/ready', '/metrics']);

/** Returns whether a request is a probe or a scrape, which tools send every few seconds. */
export function isProbe({ routeOptions }: FastifyRequest): boolean {
  return probes.has(routeOptions.url);
}

/** Returns a function that charges the memory for reading a text of the given bytes and sending it. */
export function admitAnswer(request: FastifyRequest): Admit {
  return (bytes) => {
    if (request.raw.socket.destroyed) throw new LoomError('client_gone', 'The client disconnected before the answer.');
    request.memory.answer.resize(limits.answerMemoryFactor * bytes);
  };
}

/** Describes a route that needs a token and a usable database. */
export function dataRoute(access: 'client' | 'admin', operation: Operation): { config: RouteConfig } {
  return { config: { access, gated: true, query: parametersOf(operation), operation } };
}

/** Describes a route that answers even while the database is unreachable. */
export function operatorRoute(access: Access, operation: Operation): { config: RouteConfig } {
  return { config: { access, gated: false, query: parametersOf(operation), operation } };
}

function parametersOf({ query }: Operation): RouteConfig['query'] {
  return query === 'any' ? query : Object.keys(query?.shape ?? {});
}
