import { createHash } from 'node:crypto';
import type { EntryMembers } from './entry-check.ts';
import { repeatedMember } from './faults.ts';
import { decodeAll, type OpenBackup } from './read.ts';

const uniqueMembers = ['event_id', 'idempotency_key'] as const;

interface Repeat {
  position: number;
  seq: number;
  member: string;
}

/**
 * Throws when two entries have one event id or one idempotency key, naming the first that repeats one. Each reading of the
 * backup remembers only the values whose digest falls into its share, so memory does not grow with the trail.
 */
export async function checkRepeats(open: OpenBackup, entries: number, window: number): Promise<void> {
  const shares = Math.ceil(entries / window);
  let first: Repeat | undefined;
  for (let share = 0; share < shares; share += 1) {
    const found = await firstRepeat(open, (value) => shareOf(value, shares) === share);
    if (found !== undefined && (first === undefined || found.position < first.position)) first = found;
  }
  if (first !== undefined) throw repeatedMember('', first.position, first.seq, first.member);
}

async function firstRepeat(open: OpenBackup, isMine: (value: string) => boolean): Promise<Repeat | undefined> {
  const seen = { event_id: new Set<string>(), idempotency_key: new Set<string>() };
  let position = 0;
  let first: Repeat | undefined;
  await decodeAll(open, (item) => {
    if (item.kind !== 'entry') return;
    position += 1;
    if (first !== undefined) return;
    const entry = JSON.parse(item.text.toString('utf8')) as EntryMembers;
    for (const member of uniqueMembers) {
      const value = entry[member];
      if (typeof value !== 'string' || !isMine(value)) continue;
      if (seen[member].has(value)) first ??= { position, seq: Number(entry.seq), member };
      seen[member].add(value);
    }
  });
  return first;
}

function shareOf(value: string, shares: number): number {
  return shares === 1 ? 0 : createHash('sha256').update(value).digest().readUInt32BE() % shares;
}
