import type { EntryMembers } from '../check/entry.ts';
import type { BackupFrame } from '../format/decoder.ts';
import { decodeAll, type OpenBackup } from './read.ts';

/** A public LOOM node writes `timestamp` in place of `recorded_at`, and no `seq`. */
export type SummaryEntry = EntryMembers & { timestamp?: unknown };

/** What a backup holds, as far as it says so itself: nothing is verified. */
export interface BackupSummary {
  frame: BackupFrame;
  /** Of the JSON, unpacked. */
  bytes: number;
  documents: number;
  /** Of their canonical texts, as status counts them. */
  documentBytes: number;
  /** The largest documents, largest first. */
  largest: { name: string; bytes: number }[];
  entries: number;
  first: SummaryEntry | undefined;
  last: SummaryEntry | undefined;
  /** How often each action stands in the trail; what is beyond `ACTIONS_MOST` kinds is counted under `(others)`. */
  actions: Map<string, number>;
}

const LARGEST_MOST = 5;
const ACTIONS_MOST = 20;

/** Reads the whole backup once, in constant memory. Throws what the decoder throws. */
export async function summarizeBackup(open: OpenBackup): Promise<BackupSummary> {
  const counted = {
    documents: 0,
    documentBytes: 0,
    largest: [] as BackupSummary['largest'],
    entries: 0,
    first: undefined as SummaryEntry | undefined,
    last: undefined as SummaryEntry | undefined,
    actions: new Map<string, number>(),
  };
  const { frame, bytes } = await decodeAll(open, (item) => {
    if (item.kind === 'document') {
      counted.documents += 1;
      counted.documentBytes += item.canonicalBytes;
      keepLargest(counted.largest, { name: item.name, bytes: item.canonicalBytes });
    } else if (item.kind === 'entry') {
      const entry = JSON.parse(item.text.toString('utf8')) as SummaryEntry;
      counted.entries += 1;
      counted.first ??= entry;
      counted.last = entry;
      countAction(counted.actions, entry.action);
    }
  });
  return { frame, bytes, ...counted };
}

function keepLargest(largest: BackupSummary['largest'], one: { name: string; bytes: number }): void {
  largest.push(one);
  largest.sort((left, right) => right.bytes - left.bytes);
  largest.length = Math.min(largest.length, LARGEST_MOST);
}

function countAction(actions: Map<string, number>, action: unknown): void {
  const known = typeof action === 'string' && (actions.has(action) || actions.size < ACTIONS_MOST);
  const name = known ? action : '(others)';
  actions.set(name, (actions.get(name) ?? 0) + 1);
}
