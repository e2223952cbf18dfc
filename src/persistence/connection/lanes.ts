import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';

/**
 * Names what a connection is for. `commit` always finds one. `read` is one short statement. Streams hold a connection
 * while a client sends or receives: `client` for reads, `operator` for backups, restores, undos and verifications.
 */
export type Lane = 'commit' | 'read' | 'client' | 'operator';

export interface LanesOptions {
  poolMax: number;
  streamsMax: number;
  /** Time to wait for a turn. */
  waitMs: number;
}

interface Waiting {
  lane: Lane;
  admit(): void;
}

/**
 * Divides the pool. Streams use at most `streamsMax` connections, and all but commits leave one free for the commits.
 * Clients leave one of the share to operators, and of three or more, operators leave one to clients. So neither a
 * client's readers nor a row of backups locks the others out.
 */
export function createLanes({ poolMax, streamsMax, waitMs }: LanesOptions) {
  const inUse: Record<Lane, number> = { commit: 0, read: 0, client: 0, operator: 0 };
  const maxima: Record<Lane, number> = {
    commit: Number.POSITIVE_INFINITY,
    read: Number.POSITIVE_INFINITY,
    client: Math.max(1, streamsMax - 1),
    operator: streamsMax > 2 ? streamsMax - 1 : streamsMax,
  };
  // Only tests have pools of less than three connections.
  const othersMax = poolMax > 2 ? poolMax - 1 : poolMax;
  const waiting: Waiting[] = [];
  const streams = (): number => inUse.client + inUse.operator;

  function hasRoom(lane: Lane): boolean {
    if (lane === 'commit') return true;
    if (inUse.read + streams() >= othersMax) return false;
    return lane === 'read' || (streams() < streamsMax && inUse[lane] < maxima[lane]);
  }

  /** Admits those who have room now: operators first, because a restore is urgent, then in the order of arrival. */
  function admitWaiting(): void {
    if (waiting.length === 0) return;
    const inOrder = [...waiting.filter(isOperator), ...waiting.filter((one) => !isOperator(one))];
    for (const one of inOrder) if (hasRoom(one.lane)) one.admit();
  }

  function enter(lane: Lane, signal?: AbortSignal): Promise<void> {
    if (waiting.length === 0 && signal?.aborted !== true && hasRoom(lane)) {
      inUse[lane] += 1;
      return Promise.resolve();
    }
    return new Promise((resolve, reject) => {
      const leave = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', abort);
        const at = waiting.indexOf(one);
        if (at >= 0) waiting.splice(at, 1);
      };
      const refuse = (error: LoomError): void => {
        leave();
        reject(error);
      };
      const abort = (): void => refuse(new LoomError('client_gone', 'The client disconnected before its turn came.'));
      const timer = setTimeout(() => refuse(refusalOf(lane, maxima[lane], waitMs)), waitMs);
      const one: Waiting = {
        lane,
        admit: () => {
          leave();
          inUse[lane] += 1;
          resolve();
        },
      };
      waiting.push(one);
      signal?.addEventListener('abort', abort, { once: true });
      if (signal?.aborted === true) abort();
      else admitWaiting();
    });
  }

  return {
    /** Runs `use` when the lane has room. Rejects with `streams_busy` or `database_unavailable` after `waitMs`. */
    inTurn: async <T>(lane: Lane, use: () => Promise<T>, signal?: AbortSignal): Promise<T> => {
      await enter(lane, signal);
      try {
        return await use();
      } finally {
        inUse[lane] -= 1;
        admitWaiting();
      }
    },
    waiting: (): number => waiting.length,
    streams: () => ({ used: streams(), max: streamsMax }),
  };
}

function isOperator({ lane }: Waiting): boolean {
  return lane === 'operator';
}

function refusalOf(lane: Lane, max: number, waitMs: number): LoomError {
  if (lane === 'read' || lane === 'commit') {
    const detail = `None of this node's connections to the database became free within ${waitMs} ms.`;
    return new LoomError('database_unavailable', detail, { retryAfterSeconds: limits.databaseRetrySeconds });
  }
  const detail =
    `This node gives ${laneNames[lane]} at most ${max} of its connections to the database at once, and none became free ` +
    `within ${waitMs} ms. Wait for a running one to end, or raise LOOM_PG_STREAMS_MAX.`;
  return new LoomError('streams_busy', detail, { retryAfterSeconds: limits.streamsRetrySeconds });
}

const laneNames = {
  client: 'reads of the whole state or trail',
  operator: 'backups, restores, undos and verifications',
};
