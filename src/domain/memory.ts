import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';

/** Represents the part of a memory budget that one request or stream uses. */
export interface MemoryShare {
  /** Sets the bytes in memory. Throws `node_busy` if they do not fit, and keeps the earlier number. */
  resize(bytes: number): void;
  /** Counts bytes that the client has sent or taken: the slowest client loses its share first. */
  countMoved(bytes: number): void;
  /**
   * Allows the budget to take this share back if the client is slow from now on: `onLost` must free the memory.
   */
  makeReclaimable(onLost: (error: LoomError) => void): void;
  /** Ends this permission, for example because the whole body has arrived. */
  makeFixed(): void;
  /** Runs `work`, which uses the memory even if the client disconnects. Frees the share only after it. */
  keepDuring<T>(work: Promise<T>): Promise<T>;
  /** Frees the share. May be called twice. */
  close(): void;
}

export interface MemoryBudget {
  open(): MemoryShare;
  usedBytes(): number;
}

interface Holder {
  bytes: number;
  movedBytes: number;
  reclaimableSinceMs: number;
  onLost: ((error: LoomError) => void) | undefined;
  lost: LoomError | undefined;
}

export interface MemoryBudgetOptions {
  /** Names what the memory is for, as in "request bodies". */
  purpose: string;
  maxBytes: number;
  /** Protects a share from being taken back during its first milliseconds. */
  minHoldMs: number;
  /** Protects the share of a client that has moved at least so many bytes a second. By default, nobody is so fast. */
  fastBytesPerSecond?: number;
  now(): number;
}

/**
 * Creates a budget of memory that all requests share. If new bytes do not fit, it takes back the shares with the most
 * bytes for the least progress. If the rest is in use by faster clients, it refuses the new bytes. A share that is
 * alone may exceed the budget, so that everything within the other limits can be done.
 */
export function createMemoryBudget(options: MemoryBudgetOptions): MemoryBudget {
  const holders = new Set<Holder>();
  let usedBytes = 0;

  function free(holder: Holder): void {
    usedBytes -= holder.bytes;
    holder.bytes = 0;
    holders.delete(holder);
  }

  function resize(holder: Holder, reckoned: number): void {
    // Callers multiply by factors, and a sum of fractions would not come back to zero.
    const bytes = Math.ceil(reckoned);
    if (holder.lost !== undefined && bytes > 0) throw holder.lost;
    while (bytes > holder.bytes && usedBytes > holder.bytes && usedBytes - holder.bytes + bytes > options.maxBytes) {
      const slowest = findSlowest(holders, holder, options);
      if (slowest === undefined) throw busy(options, usedBytes);
      reclaim(slowest);
    }
    usedBytes += bytes - holder.bytes;
    holder.bytes = bytes;
    if (bytes > 0) holders.add(holder);
  }

  function reclaim(holder: Holder): void {
    free(holder);
    const { onLost } = holder;
    holder.onLost = undefined;
    holder.lost = tooSlow(options);
    onLost?.(holder.lost);
  }

  return { open: () => createShare({ resize, free, now: options.now }), usedBytes: () => usedBytes };
}

interface ShareActions {
  resize(holder: Holder, bytes: number): void;
  free(holder: Holder): void;
  now(): number;
}

function createShare({ resize, free, now }: ShareActions): MemoryShare {
  const holder: Holder = { bytes: 0, movedBytes: 0, reclaimableSinceMs: 0, onLost: undefined, lost: undefined };
  let uses = 1;
  const leave = (): void => {
    uses -= 1;
    if (uses === 0) free(holder);
  };
  let closed = false;
  return {
    resize: (bytes) => {
      if (uses > 0) resize(holder, bytes);
    },
    countMoved: (bytes) => {
      holder.movedBytes += bytes;
    },
    makeReclaimable: (onLost) => {
      holder.reclaimableSinceMs = now();
      holder.movedBytes = 0;
      holder.onLost = onLost;
    },
    makeFixed: () => {
      holder.onLost = undefined;
    },
    keepDuring: async (work) => {
      uses += 1;
      try {
        return await work;
      } finally {
        leave();
      }
    },
    close: () => {
      if (closed) return;
      closed = true;
      leave();
    },
  };
}

/**
 * Returns the share, other than `asking`, that keeps the most bytes for the longest time per byte of progress. Never
 * returns that of a fast client, which frees it soon.
 */
function findSlowest(holders: Set<Holder>, asking: Holder, options: MemoryBudgetOptions) {
  const { minHoldMs, fastBytesPerSecond = Number.POSITIVE_INFINITY, now } = options;
  const nowMs = now();
  let slowest: Holder | undefined;
  let highestCost = 0;
  for (const holder of holders) {
    const ageMs = nowMs - holder.reclaimableSinceMs;
    if (holder === asking || holder.onLost === undefined || ageMs < minHoldMs) continue;
    if (holder.movedBytes * 1_000 >= fastBytesPerSecond * ageMs) continue;
    const cost = (holder.bytes * ageMs) / (holder.movedBytes + 1);
    if (cost <= highestCost) continue;
    highestCost = cost;
    slowest = holder;
  }
  return slowest;
}

function busy({ purpose, maxBytes }: MemoryBudgetOptions, usedBytes: number): LoomError {
  const detail = `The node holds ${usedBytes} of at most ${maxBytes} bytes of ${purpose} in memory. Send the request again.`;
  return new LoomError('node_busy', detail, { retryAfterSeconds: 1 });
}

function tooSlow({ purpose, maxBytes }: MemoryBudgetOptions): LoomError {
  const detail = `The node needed the memory of this request, because its ${maxBytes} bytes for ${purpose} were in use and this client was the slowest. Send the request again.`;
  return new LoomError('node_busy', detail, { retryAfterSeconds: 1 });
}

/** Bounds the memory of a node's requests in flight: of their bodies and of their answers, over all connections. */
export interface MemoryBudgets {
  bodies: MemoryBudget;
  answers: MemoryBudget;
}

export function createMemoryBudgets(now: () => number): MemoryBudgets {
  const shared = { minHoldMs: limits.minMemoryHoldMs, now };
  return {
    bodies: createMemoryBudget({ ...shared, purpose: 'request bodies', maxBytes: limits.maxBodiesBytes }),
    answers: createMemoryBudget({
      ...shared,
      purpose: 'answers',
      maxBytes: limits.maxAnswersBytes,
      fastBytesPerSecond: limits.fastReaderBytesPerSecond,
    }),
  };
}
