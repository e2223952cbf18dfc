import { z } from 'zod';
import { readEntries } from './read.ts';
import type { Trail } from './trail.ts';

/** Describes a restore that removed audit entries, from its own seq up to the head before the restore. */
export interface Truncation {
  seq: number;
  recordedAt: string;
  requestId: string;
  replacedEntries: number;
  /** The last removed entry. */
  previousHead: { seq: number; hash: string };
  /** Whether an earlier restore removed some of them, and this restore removed that restore's entry. */
  includesEarlierRestore: boolean;
}

/** Describes the removed and imported entries that a trail records. */
export interface History {
  truncation: Truncation | undefined;
  hasImports: boolean;
}

const headSchema = z.object({ seq: z.int().min(1), hash: z.string() });

const truncationSchema = z
  .object({
    seq: z.int().min(1),
    recorded_at: z.string(),
    action: z.literal('restore'),
    request_id: z.string(),
    restore: z.object({
      replaced_entries: z.int().min(1),
      previous_head: headSchema,
      replaced_restores: z.array(z.object({ previous_head: headSchema })).default([]),
    }),
  })
  // The restore's own entry takes the seq of the first removed entry.
  .refine(({ seq, restore }) => seq === restore.previous_head.seq - restore.replaced_entries + 1);

/**
 * Reads the whole trail once and returns the truncating restore with the highest rank above 0. Among equal ranks, the
 * highest last removed seq wins, then the first restore.
 */
export async function readHistory({ open }: Trail, rankOf: (truncation: Truncation) => number): Promise<History> {
  const history: History = { truncation: undefined, hasImports: false };
  let highest = 0;
  for await (const text of readEntries(open)) {
    const entry: unknown = JSON.parse(text.toString('utf8'));
    if (actionOf(entry) === 'audit.import') history.hasImports = true;
    if (actionOf(entry) !== 'restore') continue;
    for (const truncation of truncationsOf(entry)) {
      const rank = rankOf(truncation);
      const isMore = rank === highest && truncation.previousHead.seq > (history.truncation?.previousHead.seq ?? 0);
      if (rank === 0 || (rank <= highest && !isMore)) continue;
      history.truncation = truncation;
      highest = rank;
    }
  }
  return history;
}

function actionOf(entry: unknown): unknown {
  return (entry as { action?: unknown }).action;
}

/** Returns the truncation of a restore alone, then combined with each earlier restore whose entry it removed. */
function truncationsOf(entry: unknown): Truncation[] {
  const { data } = truncationSchema.safeParse(entry);
  if (data === undefined) return [];
  const { seq, recorded_at: recordedAt, request_id: requestId, restore } = data;
  const upTo = (previousHead: Truncation['previousHead'], includesEarlierRestore: boolean): Truncation => {
    return {
      seq,
      recordedAt,
      requestId,
      replacedEntries: previousHead.seq - seq + 1,
      previousHead,
      includesEarlierRestore,
    };
  };
  const earlier = restore.replaced_restores.filter((one) => one.previous_head.seq >= seq);
  return [upTo(restore.previous_head, false), ...earlier.map((one) => upTo(one.previous_head, true))];
}
