import { createHash } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { RateLimiterMemory, RateLimiterRes } from 'rate-limiter-flexible';
import type { Config } from '../../config/config.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { readActorName } from '../request/actor.ts';
import { networkOf } from '../request/client-address.ts';
import { assertNoTokenInQuery, createTokenBook, readToken } from '../request/tokens.ts';

/**
 * Authenticates a request by its token. Answers 400 for a token in any URL, and 401 for a missing token. Answers 403
 * for a wrong token or one without access to the route, and 429 for too many wrong tokens from one address. A valid
 * token is accepted even then.
 */
export function registerAuthentication(app: FastifyInstance, tokens: Config['tokens']): void {
  const findActor = createTokenBook(tokens);
  const countWrongToken = createFloodGuard();
  app.decorateRequest('actor', undefined);
  app.decorateRequest('actorName', undefined);
  app.addHook('onRequest', (request, _reply, done) => {
    assertNoTokenInQuery(request.raw.url ?? '', findActor);
    const { access = 'admin' } = request.routeOptions.config;
    // An unknown path needs no token: the answer is 404.
    if (request.is404 || access === 'none') {
      done();
      return;
    }
    const token = readToken(request.raw.rawHeaders);
    if (token === undefined) {
      throw new LoomError('unauthenticated', 'Send a token as x-loom-admin-token or as Authorization: Bearer.');
    }
    const actor = findActor(token);
    if (actor === undefined) {
      const refuse = () => done(new LoomError('forbidden', 'The token is not valid for this node.'));
      countWrongToken(request.clientAddress).then(refuse, done);
      return;
    }
    if (actor !== 'admin' && actor !== access) {
      const needed = access === 'admin' ? 'an admin token' : `a ${access} or admin token`;
      throw new LoomError('forbidden', `This route needs ${needed}.`);
    }
    if (actor !== 'metrics') {
      request.actor = actor;
      // With a client token, the check would tell whether a guess is the admin token.
      const isOther = (name: string): boolean => actor === 'admin' && findActor(name) !== undefined;
      request.actorName = readActorName(request.raw, token, isOther);
    }
    done();
  });
}

/** Returns a function that counts a wrong token, and throws `too_many_attempts` when one address sends too many. */
function createFloodGuard(): (address: string) => Promise<void> {
  const limiter = new RateLimiterMemory({ points: limits.maxWrongTokens, duration: limits.wrongTokensWindowSeconds });
  return async (address) => {
    try {
      await limiter.consume(toBucket(address));
    } catch (refusal) {
      if (!(refusal instanceof RateLimiterRes)) throw refusal;
      throw new LoomError(
        'too_many_attempts',
        'This address has sent too many wrong tokens. A valid token is accepted at once.',
        {
          retryAfterSeconds: Math.max(1, Math.ceil(refusal.msBeforeNext / 1000)),
        },
      );
    }
  };
}

/**
 * Maps an address to one of a fixed number of buckets, which bounds the memory in use. A client in the bucket of an
 * attacker gets 429 only if it sends a wrong token itself.
 */
function toBucket(address: string): string {
  return String(createHash('sha256').update(networkOf(address)).digest().readUInt32BE() % limits.maxAddressBuckets);
}
