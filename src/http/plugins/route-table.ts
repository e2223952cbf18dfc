import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import type { Operation } from '../openapi/operation.ts';
import type { Access, RouteConfig } from '../route-config.ts';

export interface RegisteredRoute {
  method: string;
  url: string;
  access: Access;
  gated: boolean;
  query: RouteConfig['query'];
  operation: Operation;
}

export interface RouteTable {
  /** Returns every registered route, including HEAD. */
  routes(): RegisteredRoute[];
}

/**
 * Records every route, and throws for a route without a full `RouteConfig`. Answers 404 for an unknown path, and 405
 * with `Allow` for an unknown method of a known path. Register it before the first route.
 */
export function registerRouteTable(app: FastifyInstance): RouteTable {
  const routes: RegisteredRoute[] = [];
  app.addHook('onRoute', ({ method, url, config }) => {
    const { access, gated, query, operation } = config ?? {};
    if (access === undefined || gated === undefined || query === undefined || operation === undefined) {
      throw new Error(`route ${String(method)} ${url} has no complete RouteConfig`);
    }
    for (const one of [method].flat()) {
      if (!routes.some((route) => route.method === one && route.url === url)) {
        routes.push({ method: one, url, access, gated, query, operation });
      }
    }
  });
  app.setNotFoundHandler((request: FastifyRequest, reply: FastifyReply) => {
    const path = (request.raw.url ?? '').split('?', 1)[0] ?? '';
    const pattern = findPattern(routes, path);
    if (pattern === undefined) throw new LoomError('not_found', `No route has this path.${slashHint(path)}`);
    const allowed = routes.filter(({ url }) => url === pattern).map(({ method }) => method);
    const allow = allowed.sort().join(', ');
    reply.header('allow', allow);
    throw new LoomError('method_not_allowed', `This path supports ${allow}.${slashHint(path)}`);
  });
  return { routes: () => routes.map((route) => ({ ...route })) };
}

/** Returns the pattern of a path. Of several, it is the one with a fixed part where the others have a parameter. */
function findPattern(routes: readonly RegisteredRoute[], path: string): string | undefined {
  let found: string | undefined;
  for (const { url } of routes) {
    if (matches(url, path) && (found === undefined || isMoreFixed(url, found))) found = url;
  }
  return found;
}

function isMoreFixed(pattern: string, other: string): boolean {
  const parts = other.split('/');
  const differing = pattern.split('/').find((part, index) => part !== parts[index]);
  return differing !== undefined && !differing.startsWith(':');
}

/** Decodes a part of a path as the router does, so that `%72uns` is `runs`. */
function decodePart(part = ''): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

/** Returns whether a percent-encoded path matches a pattern with `:parameters`, none of which is empty. */
function matches(pattern: string, path: string): boolean {
  const expected = pattern.split('/');
  // Anyone may send a path of thousands of segments.
  const found = path.split('/', expected.length + 1);
  return (
    expected.length === found.length &&
    expected.every((part, index) => (part.startsWith(':') ? found[index] !== '' : part === decodePart(found[index])))
  );
}

const DOCUMENTS = '/v1/documents/';

const HISTORY = '/history';

/** Suggests the path of a document whose name contains a slash, and that of its history. */
function slashHint(path: string): string {
  const name = path.slice(DOCUMENTS.length);
  if (!path.startsWith(DOCUMENTS) || !name.includes('/')) return '';
  const rule = ' In the path of a document, write each slash of its name as %2F';
  if (name.length > limits.maxDocumentNameBytes) return `${rule}.`;
  const corrected = `${rule}: ${DOCUMENTS}${escapeSlashes(name)}`;
  const documented = name.endsWith(HISTORY) ? name.slice(0, -HISTORY.length) : '';
  if (!documented.includes('/')) return corrected;
  return `${corrected}. The path of a history ends in ${HISTORY}: ${DOCUMENTS}${escapeSlashes(documented)}${HISTORY}`;
}

function escapeSlashes(name: string): string {
  return name.replaceAll('/', '%2F');
}
