import { createHash } from 'node:crypto';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import type { Config } from '../../config/config.ts';
import type { Actor } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { assertNoTokenInQuery, createTokenBook, presentedToken } from '../request/tokens.ts';

/**
 * Lets a request in by its token, or not: 400 for a token in the URL (on any path, public or unknown), 401 without a
 * token, 403 with a wrong one or one that does not open the route, 429 for a flood of wrong ones from one address. A
 * right token is never refused for the wrong ones before it.
 */
export function registerAuthentication(app: FastifyInstance, tokens: Config['tokens']): void {
  const book = createTokenBook(tokens);
  const countWrongToken = createFloodGuard();
  app.decorateRequest('actor', undefined);
  app.addHook('onRequest', async (request) => {
    assertNoTokenInQuery(request.raw.url ?? '', book);
    const access = request.routeOptions.config.access;
    // A path that leads nowhere is answered 404 to anybody: there is nothing behind it to protect.
    if (request.is404 || access === 'none') return;
    const token = presentedToken(request.raw.rawHeaders);
    if (token === undefined) {
      throw new LoomError('unauthenticated', 'Send a token as x-loom-admin-token, or as Authorization: Bearer.');
    }
    const actor = book.actorOf(token);
    if (actor === undefined) {
      await countWrongToken(request.ip);
      throw new LoomError('forbidden', 'The token is not one that this node knows.');
    }
    if (access !== 'client' && actor !== 'admin') {
      throw new LoomError('forbidden', 'This route needs an admin token.');
    }
    request.actor = actor;
  });
}

/** The actor of a request that has been let in. */
export function actorOf(request: FastifyRequest): Actor {
  if (request.actor === undefined) throw new Error('a route that changes something must need a token');
  return request.actor;
}

/** Throws `too_many_attempts` when wrong tokens come too often from one address. */
function createFloodGuard(): (address: string) => Promise<void> {
  const limiter = new RateLimiterMemory({ points: limits.maxWrongTokens, duration: limits.wrongTokensWindowSeconds });
  return async (address) => {
    try {
      await limiter.consume(bucketOf(address));
    } catch (refusal) {
      if (!(refusal instanceof RateLimiterRes)) throw refusal;
      throw new LoomError('too_many_attempts', 'Too many wrong tokens came from this address.', {
        retryAfterSeconds: Math.max(1, Math.ceil(refusal.msBeforeNext / 1000)),
      });
    }
  };
}

/**
 * A bounded number of buckets instead of one counter an address. Who shares one with an attacker notices only when they
 * send a wrong token themselves.
 */
function bucketOf(address: string): string {
  return String(createHash('sha256').update(address).digest().readUInt32BE() % limits.maxAddressBuckets);
}
