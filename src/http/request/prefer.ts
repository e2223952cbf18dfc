import type { FastifyRequest } from 'fastify';
import { limits } from '../../limits.ts';

/**
 * Returns the seconds for which the client prefers to wait (RFC 7240 §4.3), at most `limits.maxPreferredWaitSeconds`.
 * Undefined without such a preference. A malformed one is ignored, as the RFC requires.
 */
export function preferredWaitSeconds({ headers }: FastifyRequest): number | undefined {
  const given = [headers.prefer ?? ''].flat().join(',');
  for (const preference of given.split(',', limits.maxHeaderElements)) {
    const [, seconds] = /^\s*wait\s*=\s*"?(\d+)"?\s*(;|$)/i.exec(preference) ?? [];
    if (seconds !== undefined) return Math.min(Number(seconds), limits.maxPreferredWaitSeconds);
  }
  return undefined;
}
