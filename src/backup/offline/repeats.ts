import { createHash } from 'node:crypto';
import { setImmediate as nextTurn } from 'node:timers/promises';
import type { EntryMembers } from '../check/entry-forms.ts';
import type { EntryText } from '../check/entry-text.ts';
import { repeatedMember } from '../check/faults.ts';
import { createFingerprints, fingerprintOf } from '../check/fingerprints.ts';
import { decodeAll, type OpenBackup } from './read.ts';

const uniqueMembers = ['event_id', 'idempotency_key'] as const;

/** Finds two entries with the same event id or the same idempotency key. */
export interface RepeatCheck {
  /** Adds the next entry. It must be well-formed. */
  add(entry: EntryText): void;
  /** Throws an error for the first entry that repeats a member. Rereads the backup only if fingerprints repeat. */
  assertNone(open: OpenBackup): Promise<void>;
}

/** Creates a check with fingerprints of all values. A second reading holds at most about `window` values in memory. */
export function createRepeatCheck(window: number): RepeatCheck {
  const fingerprints = { event_id: createFingerprints(), idempotency_key: createFingerprints() };
  return {
    add: (entry) => {
      fingerprints.event_id.add(fingerprintOf(entry.plain(entry.eventId)));
      const key = entry.value(entry.idempotencyKey);
      if (typeof key === 'string') fingerprints.idempotency_key.add(fingerprintOf(key));
    },
    assertNone: async (open) => {
      const suspects = {
        event_id: await fingerprints.event_id.repeated(nextTurn),
        idempotency_key: await fingerprints.idempotency_key.repeated(nextTurn),
      };
      const count = suspects.event_id.size + suspects.idempotency_key.size;
      const first = await findByPartitions(open, suspects, Math.ceil(count / window));
      if (first !== undefined) throw repeatedMember('', first.position, first.seq, first.member);
    },
  };
}

type Member = (typeof uniqueMembers)[number];

interface Repeat {
  position: number;
  seq: number;
  member: Member;
}

/** Reads the backup once for each partition of the values, and keeps only the suspects of that partition in memory. */
async function findByPartitions(
  open: OpenBackup,
  suspects: Record<Member, Set<number>>,
  partitions: number,
): Promise<Repeat | undefined> {
  let first: Repeat | undefined;
  for (let partition = 0; partition < partitions; partition += 1) {
    const finder = createRepeatFinder((member, value) => {
      return suspects[member].has(fingerprintOf(value)) && partitionOf(value, partitions) === partition;
    });
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

function createRepeatFinder(isIncluded: (member: Member, value: string) => boolean): RepeatFinder {
  const seen = { event_id: new Set<string>(), idempotency_key: new Set<string>() };
  let position = 0;
  let first: Repeat | undefined;
  return {
    add: (entry) => {
      position += 1;
      if (first !== undefined) return;
      for (const member of uniqueMembers) {
        const value = entry[member];
        if (typeof value !== 'string' || !isIncluded(member, value)) continue;
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
