import { createHash } from 'node:crypto';
import type { EntryMembers } from './entry-check.ts';
import { repeatedMember } from './faults.ts';
import { decodeAll, type OpenBackup } from './read.ts';

/**
 * Throws when two entries have one event id or one idempotency key. Each reading of the backup remembers only the values whose
 * digest falls into its share, so memory does not grow with the trail.
 */
export async function checkRepeats(open: OpenBackup, entries: number, window: number): Promise<void> {
  const shares = Math.ceil(entries / window);
  for (let share = 0; share < shares; share += 1) {
    const seen = { event_id: new Set<string>(), idempotency_key: new Set<string>() };
    await decodeAll(open, (item) => {
      if (item.kind !== 'entry') return;
      const entry = JSON.parse(item.text.toString('utf8')) as EntryMembers;
      for (const member of ['event_id', 'idempotency_key'] as const) {
        const value = entry[member];
        if (typeof value !== 'string' || shareOf(value, shares) !== share) continue;
        if (seen[member].has(value)) throw repeatedMember(Number(entry.seq), member);
        seen[member].add(value);
      }
    });
  }
}

function shareOf(value: string, shares: number): number {
  return shares === 1 ? 0 : createHash('sha256').update(value).digest().readUInt32BE() % shares;
}
