import { isDeepStrictEqual } from 'node:util';
import type { Operation, Read, Receipt, RecordedEntry } from './operation.ts';

/** What a promotion may have done to the trail. */
export interface Allowed {
  /** How often the database became another copy. */
  promotions: number;
  /** Whether a promotion lost commits. */
  isLossy: boolean;
}

export interface Findings {
  faults: string[];
  entries: number;
  acknowledged: number;
  /** Acknowledged commits that are missing, without an entry of a new epoch that says so. */
  lost: number;
  /** Commits that have several entries. */
  doubled: number;
  /** Acknowledged commits that the promotion of an asynchronous standby has lost, as its new epoch says. */
  rolledBack: number;
}

/** Holds what clients were told to the audit trail, which has the entries in the order of their seq. */
export function compare(operations: Operation[], entries: RecordedEntry[], allowed: Allowed): Findings {
  const faults: string[] = [];
  const byActor = new Map<string, RecordedEntry[]>();
  for (const entry of entries) {
    const actor = entry.actor_name ?? '';
    byActor.set(actor, [...(byActor.get(actor) ?? []), entry]);
  }
  const lastOf = lastRevisions(entries);
  let [lost, doubled, rolledBack] = [0, 0, 0];
  for (const operation of operations) {
    const made = byActor.get(operation.id) ?? [];
    const report = (what: string): number => faults.push(`${what}: ${describe(operation, made)}`);
    if (made.length > 1) {
      doubled += 1;
      report('made more than once');
    }
    const [entry] = made;
    if (entry !== undefined && operation.outcome === 'refused') report('refused, but made');
    if (entry !== undefined && !isSameChange(operation, entry)) report('made with other changes');
    const survivors = operation.receipts.filter((receipt) => !isGone(receipt, lastOf));
    rolledBack += operation.receipts.length - survivors.length;
    if (survivors.length > 0 && entry === undefined) {
      lost += 1;
      report('acknowledged, but lost');
    }
    if (entry !== undefined && survivors.some((receipt) => !isReceiptOf(receipt, entry)))
      report('acknowledged with another revision or event');
  }
  faults.push(...epochFaults(entries, allowed), ...orderFaults(operations), ...conditionFaults(operations, entries));
  if (rolledBack > 0 && !allowed.isLossy)
    faults.push(`${rolledBack} acknowledged commits are beyond the end of their epoch`);
  const acknowledged = operations.filter(({ outcome }) => outcome === 'acknowledged').length;
  return { faults, entries: entries.length, acknowledged, lost, doubled, rolledBack };
}

/** Returns the last revision of each epoch that has ended, as the entry of the next epoch says. */
function lastRevisions(entries: RecordedEntry[]): Map<string, number> {
  const changes = entries.flatMap(({ epoch_change: change }) => (change === undefined ? [] : [change]));
  return new Map(changes.map((change) => [change.previous_epoch, change.previous_revision]));
}

/** Returns whether a new epoch says that the database has lost this commit. */
function isGone({ epoch, revision }: Receipt, lastOf: Map<string, number>): boolean {
  return revision > (lastOf.get(epoch) ?? Number.POSITIVE_INFINITY);
}

function isReceiptOf({ epoch, revision, eventId }: Receipt, entry: RecordedEntry): boolean {
  return entry.epoch === epoch && entry.revision === revision && entry.event_id === eventId;
}

function isSameChange({ changes }: Operation, entry: RecordedEntry): boolean {
  const wanted = changes.map(({ op, name, value }) => ({ op, name, value }));
  const made = entry.changes.map(({ op, name, value }) => ({ op, name, value }));
  return isDeepStrictEqual(new Set(made), new Set(wanted));
}

/** A new epoch begins only with another copy of the database, and its entry names the one before. */
function epochFaults(entries: RecordedEntry[], { promotions, isLossy }: Allowed): string[] {
  const faults: string[] = [];
  const changes = entries.filter(({ action }) => action === 'epoch');
  if (changes.length > promotions) faults.push(`${changes.length} new epochs after ${promotions} promotions`);
  if (isLossy && changes.length === 0) faults.push('no new epoch, although the promoted standby lacked commits');
  for (const [index, entry] of entries.entries()) {
    const before = entries[index - 1];
    if (before === undefined) continue;
    if (entry.epoch !== before.epoch && entry.action !== 'epoch') faults.push(`entry ${entry.seq} has another epoch`);
    if (entry.seq !== before.seq + 1) faults.push(`entry ${entry.seq} follows ${before.seq}`);
    if (entry.revision <= before.revision) faults.push(`entry ${entry.seq} has a revision that does not grow`);
  }
  return faults;
}

/** A commit that began after another was acknowledged has the higher revision. */
function orderFaults(operations: Operation[]): string[] {
  const faults: string[] = [];
  const acknowledged = operations.filter(({ outcome }) => outcome === 'acknowledged');
  const moments = acknowledged.flatMap((operation) => {
    const [receipt] = operation.receipts;
    if (receipt === undefined) return [];
    return [
      { atMs: operation.beganMs, isBegin: true, operation, receipt },
      { atMs: operation.endedMs, isBegin: false, operation, receipt },
    ];
  });
  const highest = new Map<string, number>();
  for (const { isBegin, operation, receipt } of moments.toSorted((left, right) => left.atMs - right.atMs)) {
    const seen = highest.get(receipt.epoch) ?? 0;
    if (!isBegin) highest.set(receipt.epoch, Math.max(seen, receipt.revision));
    else if (receipt.revision <= seen) faults.push(`not after revision ${seen}: ${describe(operation, [])}`);
  }
  return faults;
}

/** A read shows every commit that was acknowledged before it began, by whichever node. */
export function staleReads(reads: Read[], operations: Operation[]): string[] {
  const acknowledged = operations.flatMap(({ changes, endedMs, receipts: [receipt] }) =>
    receipt === undefined ? [] : changes.map(({ name }) => ({ name, atMs: endedMs, isRead: false, tag: receipt })),
  );
  const begun = reads.map(({ name, tag, beganMs }) => ({ name, atMs: beganMs, isRead: true, tag }));
  const latest = new Map<string, number>();
  const faults: string[] = [];
  for (const { name, atMs, isRead, tag } of [...acknowledged, ...begun].toSorted(
    (one, other) => one.atMs - other.atMs,
  )) {
    // A new epoch has lost commits, which its reads cannot show.
    const key = `${tag.epoch} ${name}`;
    const known = latest.get(key) ?? 0;
    if (!isRead) latest.set(key, Math.max(known, tag.revision));
    else if (tag.revision < known)
      faults.push(`a read of ${name} at ${Math.round(atMs)} ms showed revision ${tag.revision} after ${known}`);
  }
  return faults;
}

/** Every conditional commit that was made found what its condition says. */
function conditionFaults(operations: Operation[], entries: RecordedEntry[]): string[] {
  const faults: string[] = [];
  const conditional = new Map(
    operations.filter(({ condition }) => condition !== undefined).map((one) => [one.id, one]),
  );
  const revisions = new Map<string, number>();
  let epoch = '';
  for (const entry of entries) {
    const operation = conditional.get(entry.actor_name ?? '');
    if (operation !== undefined) {
      const found = revisions.get(operation.changes[0]?.name ?? '');
      const { condition } = operation;
      const isMet =
        condition === 'absent' ? found === undefined : condition?.epoch === epoch && condition.revision === found;
      if (!isMet) faults.push(`condition not met, the document had ${epoch}.${found}: ${describe(operation, [entry])}`);
    }
    for (const { op, name, revision = entry.revision } of entry.changes) {
      if (op === 'delete') revisions.delete(name);
      else revisions.set(name, revision);
    }
    epoch = entry.epoch;
  }
  return faults;
}

function describe(operation: Operation, made: RecordedEntry[]): string {
  const entries = made.map(({ seq, revision, epoch }) => `entry ${seq} (${epoch}.${revision})`);
  const { id, key, outcome, condition, receipts, attempts } = operation;
  const changes = operation.changes.map(({ op, name }) => `${op} ${name}`);
  return JSON.stringify({ id, key, outcome, condition, changes, receipts, attempts, entries });
}
