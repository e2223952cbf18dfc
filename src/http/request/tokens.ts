import { hash, timingSafeEqual } from 'node:crypto';
import type { Config } from '../../config/config.ts';
import type { Actor } from '../../domain/actor.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { parseQuery } from './query-string.ts';

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
    // Everyone may send a long text, and no token is that long.
    if (token.length > limits.maxTokenCharacters) return undefined;
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
  let found: string | undefined;
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const token = tokenIn(rawHeaders[index] ?? '', rawHeaders[index + 1] ?? '');
    if (token === undefined || token === '' || token === found) continue;
    if (found !== undefined) {
      throw new LoomError('invalid_parameter', 'The request has several different tokens. Send only one.');
    }
    found = token;
  }
  return found;
}

/** Returns the token in a header. Ignores other schemes of `Authorization`, which a proxy may use for itself. */
function tokenIn(name: string, value: string): string | undefined {
  const header = name.toLowerCase();
  if (header === 'x-loom-admin-token') return value.trim();
  return header === 'authorization' ? withoutScheme(value.trim()) : undefined;
}

/** Returns the credentials after the scheme `Bearer` and a blank; undefined for any other scheme. */
function withoutScheme(text: string): string | undefined {
  return text.slice(0, BEARER.length).toLowerCase() === BEARER ? text.slice(BEARER.length).trim() : undefined;
}

const BEARER = 'bearer ';

/** Lists the parts of parameter names that carry a token, each optional but the last. */
const tokenName =
  /^x?(?:loom)?(?:admin|client|access|auth|api|bearer|id|refresh)?(?:token|key|secret|password|authorization|auth|bearer|apikey)s?$/;

/** Bounds the name of a parameter that carries a token. It is longer than every name that `tokenName` matches. */
const MAX_TOKEN_NAME = 64;

/**
 * Throws `token_in_query` if a query parameter is named like a token, or if its name or value is a configured token.
 * URLs end up in logs and histories. `url` is the undecoded URL of the request. Everyone may send a query, so this
 * computes digests only of texts that have the length of a token.
 */
export function assertNoTokenInQuery(url: string, findActor: FindActor): void {
  for (const { name, value, written } of parseQuery(url)) {
    const candidates = [name, value, written, withoutScheme(value) ?? ''].filter(hasTokenLength);
    if (!isTokenName(name) && !candidates.some((text) => findActor(text) !== undefined)) continue;
    throw new LoomError(
      'token_in_query',
      'The URL seems to contain a token, and logs keep URLs. ' +
        'Send the token as x-loom-admin-token or as Authorization: Bearer. If it was a real one, replace it.',
    );
  }
}

/** Compares in lower case and without `-`, `_`, `.` and blanks. */
function isTokenName(name: string): boolean {
  return name.length <= MAX_TOKEN_NAME && tokenName.test(name.toLowerCase().replace(/[-_.\s]/g, ''));
}

function hasTokenLength({ length }: string): boolean {
  return length >= limits.minTokenCharacters && length <= limits.maxTokenCharacters;
}

function digestOf(text: string): Buffer {
  return hash('sha256', text, 'buffer');
}
