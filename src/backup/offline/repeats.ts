import { createHash } from 'node:crypto';
import type { EntryMembers } from '../check/entry-forms.ts';
import { repeatedMember } from '../check/faults.ts';
import { decodeAll, type OpenBackup } from './read.ts';

const uniqueMembers = ['event_id', 'idempotency_key'] as const;

/** Finds two entries with the same event id or the same idempotency key. */
export interface RepeatCheck {
  /** Adds the next entry. It must be well-formed, which bounds the memory for its members. */
  add(entry: EntryMembers): void;
  /** Throws an error for the first entry that repeats a member. Rereads a backup of more than `window` entries. */
  assertNone(open: OpenBackup): Promise<void>;
}

export function createRepeatCheck(window: number): RepeatCheck {
  let finder: RepeatFinder | undefined = createRepeatFinder(() => true);
  let entries = 0;
  return {
    add: (entry) => {
      entries += 1;
      if (entries > window) finder = undefined;
      finder?.add(entry);
    },
    assertNone: async (open) => {
      const first = finder === undefined ? await findByPartitions(open, Math.ceil(entries / window)) : finder.first();
      if (first !== undefined) throw repeatedMember('', first.position, first.seq, first.member);
    },
  };
}

interface Repeat {
  position: number;
  seq: number;
  member: string;
}

/** Reads the backup once for each partition of the values, and keeps only the values of that partition in memory. */
async function findByPartitions(open: OpenBackup, partitions: number): Promise<Repeat | undefined> {
  let first: Repeat | undefined;
  for (let partition = 0; partition < partitions; partition += 1) {
    const finder = createRepeatFinder((value) => partitionOf(value, partitions) === partition);
    await decodeAll(open, (item) => {
      if (item.kind === 'entry') finder.add(JSON.parse(item.text.toString('utf8')) as EntryMembers);
    });
    const found = finder.first();
    if (found !== undefined && (first === undefined || found.position < first.position)) first = found;
  }
  return first;
}

interface RepeatFinder {
  add(entry: EntryMembers): void;
  first(): Repeat | undefined;
}

function createRepeatFinder(isIncluded: (value: string) => boolean): RepeatFinder {
  const seen = { event_id: new Set<string>(), idempotency_key: new Set<string>() };
  let position = 0;
  let first: Repeat | undefined;
  return {
    add: (entry) => {
      position += 1;
      if (first !== undefined) return;
      for (const member of uniqueMembers) {
        const value = entry[member];
        if (typeof value !== 'string' || !isIncluded(value)) continue;
        if (seen[member].has(value)) first ??= { position, seq: Number(entry.seq), member };
        seen[member].add(value);
      }
    },
    first: () => first,
  };
}

function partitionOf(value: string, partitions: number): number {
  return createHash('sha256').update(value).digest().readUInt32BE() % partitions;
}
