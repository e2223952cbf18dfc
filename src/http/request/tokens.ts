import { createHash, timingSafeEqual } from 'node:crypto';
import type { Config } from '../../config/config.ts';
import type { Actor } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';

export interface TokenBook {
  /** Whose token this is. Takes the same time for any text of one length. */
  actorOf(token: string): Actor | undefined;
}

/** Keeps digests, not tokens; all have one length, so that they can be compared in constant time. */
export function createTokenBook(tokens: Config['tokens']): TokenBook {
  const entries: { actor: Actor; digest: Buffer }[] = [
    ...tokens.admin.map((token) => ({ actor: 'admin' as const, digest: digestOf(token) })),
    ...tokens.client.map((token) => ({ actor: 'client' as const, digest: digestOf(token) })),
  ];
  return {
    actorOf: (token) => {
      const digest = digestOf(token);
      let actor: Actor | undefined;
      // All are compared, whichever fits: how long it takes tells nothing.
      for (const entry of entries) if (timingSafeEqual(entry.digest, digest)) actor = entry.actor;
      return actor;
    },
  };
}

/**
 * The token of a request, from `x-loom-admin-token` or `Authorization: Bearer`; `undefined` when there is none. Works on
 * the raw header list, because Node drops a second `Authorization`. Throws when two are given that differ.
 */
export function presentedToken(rawHeaders: readonly string[]): string | undefined {
  const found = new Set<string>();
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const token = tokenOf(rawHeaders[index] ?? '', rawHeaders[index + 1] ?? '');
    if (token !== undefined && token !== '') found.add(token);
  }
  if (found.size > 1) {
    throw new LoomError('invalid_parameter', 'The request has several tokens that differ; send one.');
  }
  return found.values().next().value;
}

/** A proxy in front may use `Authorization` with another scheme for itself: that is no token of ours. */
function tokenOf(name: string, value: string): string | undefined {
  const header = name.toLowerCase();
  if (header === 'x-loom-admin-token') return value.trim();
  if (header !== 'authorization') return undefined;
  return /^bearer +(.*)$/i.exec(value.trim())?.[1]?.trim();
}

/** Parameters by which people pass tokens; compared without case, `-`, `_` and `.`. */
const telling =
  /^x?(?:loom)?(?:admin|client|access|auth|api|bearer|id|refresh)?(?:token|key|secret|password|authorization|auth|bearer|apikey)s?$/;

/**
 * Throws `token_in_query` when a parameter looks like a token, by its name, or is one, by its value: URLs end up in logs
 * and histories. `url` is the request's, undecoded.
 */
export function assertNoTokenInQuery(url: string, book: TokenBook): void {
  const start = url.indexOf('?');
  if (start < 0) return;
  for (const [name, value] of new URLSearchParams(url.slice(start + 1))) {
    const candidates = [name, value, value.replace(/^bearer\s+/i, '')];
    if (!looksLikeToken(name) && !candidates.some((text) => book.actorOf(text) !== undefined)) continue;
    throw new LoomError(
      'token_in_query',
      'A token must not stand in a URL, where logs keep it: send it as x-loom-admin-token, or as Authorization: Bearer. If it was a real one, replace it.',
    );
  }
}

function looksLikeToken(name: string): boolean {
  return telling.test(name.toLowerCase().replace(/[-_.\s]/g, ''));
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
