import { z } from 'zod';
import { readEntries } from './read.ts';
import type { Trail } from './trail.ts';

/** A restore that removed entries from the audit trail: those from its own seq up to the head before the restore. */
export interface Truncation {
  seq: number;
  recordedAt: string;
  requestId: string;
  replacedEntries: number;
  /** The last removed entry. */
  previousHead: { seq: number; hash: string };
  /** Whether some of them were removed by an earlier restore, whose own entry this restore then removed. */
  isTogether: boolean;
}

/** What the entries of a trail say about removed and imported entries. */
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
 * Reads the whole trail once and returns the truncating restore of the highest rank above 0. Among equals, the one that
 * removed entries up to the highest seq wins, then the first.
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

/** Returns what a restore removed itself, and what it removed together with each earlier restore that it removed. */
function truncationsOf(entry: unknown): Truncation[] {
  const { data } = truncationSchema.safeParse(entry);
  if (data === undefined) return [];
  const { seq, recorded_at: recordedAt, request_id: requestId, restore } = data;
  const upTo = (previousHead: Truncation['previousHead'], isTogether: boolean): Truncation => {
    return { seq, recordedAt, requestId, replacedEntries: previousHead.seq - seq + 1, previousHead, isTogether };
  };
  const earlier = restore.replaced_restores.filter((one) => one.previous_head.seq >= seq);
  return [upTo(restore.previous_head, false), ...earlier.map((one) => upTo(one.previous_head, true))];
}
