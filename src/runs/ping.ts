import { request } from 'undici';
import { codeOf } from '../errors.ts';
import { limits } from '../limits.ts';
import type { Log } from '../log.ts';

/** Tells a dead man's switch how runs end. */
export interface Ping {
  succeeded(): void;
  failed(): void;
  /** Waits a moment for the requests in flight, then aborts them. */
  close(): Promise<void>;
}

/**
 * Creates the ping for `LOOM_BACKUP_PING_URL`; undefined for none. A request that fails is only logged. No log line has
 * more of the URL than its origin, because a token is in its path.
 */
export function createPing(url: string | undefined, log: Log): Ping {
  const pending = new Set<Promise<void>>();
  const closing = new AbortController();
  const send = (target: URL | undefined): void => {
    if (target === undefined) return;
    const sent = ask(target, log, closing.signal).finally(() => pending.delete(sent));
    pending.add(sent);
  };
  const success = url === undefined ? undefined : new URL(url);
  const failure = success === undefined ? undefined : toFailUrl(success);
  return {
    succeeded: () => send(success),
    failed: () => send(failure),
    close: async () => {
      const timer = setTimeout(() => closing.abort(), limits.closePingMs);
      await Promise.all(pending);
      clearTimeout(timer);
    },
  };
}

/** Adds `/fail` to the path. The query stays. */
function toFailUrl(url: URL): URL {
  const failure = new URL(url);
  failure.pathname = `${url.pathname}${url.pathname.endsWith('/') ? '' : '/'}fail`;
  return failure;
}

async function ask(url: URL, log: Log, closing: AbortSignal): Promise<void> {
  const { origin } = url;
  try {
    const signal = AbortSignal.any([AbortSignal.timeout(limits.pingTimeoutMs), closing]);
    const { statusCode, body } = await request(url, { signal });
    await body.dump();
    if (statusCode >= 300) log.warn({ origin, status: statusCode }, 'the ping of a backup was answered with an error');
  } catch (error) {
    // The message of the error may contain the URL.
    const cause = codeOf(error) ?? (error instanceof Error ? error.name : 'unknown');
    log.warn({ origin, cause }, 'the ping of a backup failed');
  }
}
