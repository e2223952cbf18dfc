import type { EntryMembers } from '../check/entry-forms.ts';
import type { BackupFrame } from '../format/decoder.ts';
import { decodeAll, type OpenBackup } from './read.ts';

/** Describes an entry. A public LOOM node writes `timestamp` instead of `recorded_at`, and no `seq`. */
export type SummaryEntry = EntryMembers & { timestamp?: unknown };

/** Describes the content of a backup, unverified. */
export interface BackupSummary {
  frame: BackupFrame;
  /** Length of the JSON, decompressed. */
  bytes: number;
  documents: number;
  /** Length of all canonical texts, as in the node's status. */
  documentBytes: number;
  /** Largest first, at most `MAX_LARGEST`. */
  largest: { name: string; bytes: number }[];
  entries: number;
  first: SummaryEntry | undefined;
  last: SummaryEntry | undefined;
  /** Number of entries by action. Actions beyond the first `MAX_ACTIONS` are counted as `(others)`. */
  actions: Map<string, number>;
}

const MAX_LARGEST = 5;
const MAX_ACTIONS = 20;

/** Reads the whole backup once, in constant memory, and summarizes it. Throws the decoder's errors. */
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
  largest.length = Math.min(largest.length, MAX_LARGEST);
}

function countAction(actions: Map<string, number>, action: unknown): void {
  const known = typeof action === 'string' && (actions.has(action) || actions.size < MAX_ACTIONS);
  const name = known ? action : '(others)';
  actions.set(name, (actions.get(name) ?? 0) + 1);
}
