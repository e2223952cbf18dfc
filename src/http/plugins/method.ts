import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { LoomError } from '../../errors.ts';

export interface RouteTable {
  /** Every route that has been registered, HEAD among them. */
  routes(): { method: string; url: string; access: string }[];
}

/**
 * Keeps the table of routes, refuses those that do not say who may use them, and answers paths without a route 404, and
 * methods that a path does not know 405 with `Allow`. Must be registered before the first route.
 */
export function registerRouteTable(app: FastifyInstance): RouteTable {
  const routes: { method: string; url: string; access: string }[] = [];
  app.addHook('onRoute', ({ method, url, config }) => {
    if (config?.access === undefined || config.gated === undefined || config.query === undefined) {
      throw new Error(`route ${String(method)} ${url} does not say who may use it`);
    }
    for (const one of [method].flat()) {
      if (!routes.some((route) => route.method === one && route.url === url)) {
        routes.push({ method: one, url, access: config.access });
      }
    }
  });
  app.setNotFoundHandler((request: FastifyRequest, reply: FastifyReply) => {
    const path = (request.raw.url ?? '').split('?', 1)[0] ?? '';
    const allowed = routes.filter(({ url }) => matches(url, path)).map(({ method }) => method);
    if (allowed.length === 0) throw new LoomError('not_found', 'There is nothing at this path.');
    const allow = [...new Set(allowed)].sort().join(', ');
    reply.header('allow', allow);
    throw new LoomError('method_not_allowed', `This path knows ${allow}.`);
  });
  return { routes: () => routes.map((route) => ({ ...route })) };
}

/** Whether a path, still encoded, is one of a pattern with `:parameters`. */
function matches(pattern: string, path: string): boolean {
  const expected = pattern.split('/');
  const found = path.split('/');
  return (
    expected.length === found.length && expected.every((part, index) => part.startsWith(':') || part === found[index])
  );
}
