import { z } from 'zod';
import { readEntries } from './read.ts';
import type { Trail } from './trail.ts';

/** A restore that took entries out of the trail: those from its own seq up to the head of that time. */
export interface Truncation {
  seq: number;
  recordedAt: string;
  requestId: string;
  replacedEntries: number;
  /** Last of the entries that it took out. */
  previousHead: { seq: number; hash: string };
}

/** What a trail says of its own past. */
export interface History {
  truncation: Truncation | undefined;
  hasImports: boolean;
}

const truncationSchema = z
  .object({
    seq: z.int().min(1),
    recorded_at: z.string(),
    action: z.literal('restore'),
    request_id: z.string(),
    restore: z.object({
      replaced_entries: z.int().min(1),
      previous_head: z.object({ seq: z.int().min(1), hash: z.string() }),
    }),
  })
  // Its own entry stands where the first stood that it took out.
  .refine(({ seq, restore }) => seq === restore.previous_head.seq - restore.replaced_entries + 1);

/** Reads the whole trail once. Keeps the truncating restore of the highest rank, the first of equals; none of rank 0. */
export async function readHistory({ open }: Trail, rankOf: (truncation: Truncation) => number): Promise<History> {
  const history: History = { truncation: undefined, hasImports: false };
  let highest = 0;
  for await (const text of readEntries(open)) {
    const entry: unknown = JSON.parse(text.toString('utf8'));
    if (actionOf(entry) === 'audit.import') history.hasImports = true;
    if (actionOf(entry) !== 'restore') continue;
    const truncation = truncationOf(entry);
    if (truncation === undefined || rankOf(truncation) <= highest) continue;
    history.truncation = truncation;
    highest = rankOf(truncation);
  }
  return history;
}

function actionOf(entry: unknown): unknown {
  return (entry as { action?: unknown }).action;
}

function truncationOf(entry: unknown): Truncation | undefined {
  const { data } = truncationSchema.safeParse(entry);
  if (data === undefined) return undefined;
  const { seq, recorded_at: recordedAt, request_id: requestId, restore } = data;
  return { seq, recordedAt, requestId, replacedEntries: restore.replaced_entries, previousHead: restore.previous_head };
}
