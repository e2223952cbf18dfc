import { createHash, timingSafeEqual } from 'node:crypto';
import type { Config } from '../../config/config.ts';
import type { Actor } from '../../domain/commit.ts';
import { LoomError } from '../../errors.ts';

/** Returns the actor of a token, or undefined for an unknown token. Takes the same time whichever token matches. */
type FindActor = (token: string) => TokenKind | undefined;

/** Names who has a token: an actor of the audit trail, or a program that reads only metrics. */
export type TokenKind = Actor | 'metrics';

/** Creates a lookup of tokens by their digests, which have equal lengths, as a constant-time comparison requires. */
export function createTokenBook(tokens: Config['tokens']): FindActor {
  const entries = (['admin', 'client', 'metrics'] as const).flatMap((actor) =>
    (tokens[actor] ?? []).map((token) => ({ actor, digest: digestOf(token) })),
  );
  return (token) => {
    const digest = digestOf(token);
    let actor: TokenKind | undefined;
    // No early return: comparing every entry keeps the time constant.
    for (const entry of entries) if (timingSafeEqual(entry.digest, digest)) actor = entry.actor;
    return actor;
  };
}

/**
 * Returns the token in `x-loom-admin-token` or `Authorization: Bearer`, or `undefined` without one. Takes the raw
 * header list, because Node drops a second `Authorization`. Throws `invalid_parameter` when two tokens differ.
 */
export function readToken(rawHeaders: readonly string[]): string | undefined {
  const found = new Set<string>();
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const token = tokenIn(rawHeaders[index] ?? '', rawHeaders[index + 1] ?? '');
    if (token !== undefined && token !== '') found.add(token);
  }
  if (found.size > 1) {
    throw new LoomError('invalid_parameter', 'The request has several different tokens. Send only one.');
  }
  return found.values().next().value;
}

/** Returns the token in a header. Ignores other schemes of `Authorization`, which a proxy may use for itself. */
function tokenIn(name: string, value: string): string | undefined {
  const header = name.toLowerCase();
  if (header === 'x-loom-admin-token') return value.trim();
  if (header !== 'authorization') return undefined;
  return /^bearer +(.*)$/i.exec(value.trim())?.[1]?.trim();
}

/** Matches names of query parameters that usually carry a token, in lower case and without `-`, `_`, `.` and spaces. */
const tokenName =
  /^x?(?:loom)?(?:admin|client|access|auth|api|bearer|id|refresh)?(?:token|key|secret|password|authorization|auth|bearer|apikey)s?$/;

/**
 * Throws `token_in_query` if a query parameter is named like a token, or if its name or value is a configured token.
 * URLs end up in logs and histories. `url` is the undecoded URL of the request.
 */
export function assertNoTokenInQuery(url: string, findActor: FindActor): void {
  const start = url.indexOf('?');
  if (start < 0) return;
  for (const [name, value] of new URLSearchParams(url.slice(start + 1))) {
    const candidates = [name, value, value.replace(/^bearer\s+/i, '')];
    const isTokenName = tokenName.test(name.toLowerCase().replace(/[-_.\s]/g, ''));
    if (!isTokenName && !candidates.some((text) => findActor(text) !== undefined)) continue;
    throw new LoomError(
      'token_in_query',
      'The URL seems to contain a token, and logs keep URLs. ' +
        'Send the token as x-loom-admin-token or as Authorization: Bearer. If it was a real one, replace it.',
    );
  }
}

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
