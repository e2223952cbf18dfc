import type { CatalogueEntry } from '../../domain/backup-run.ts';

/**
 * Says which proven backups to keep: the newest ones, and the newest one of each of the last days, ISO weeks and months
 * that have any, in UTC. `all` deletes nothing.
 */
export type KeepPolicy = 'all' | Readonly<Record<KeepRule, number>>;

type KeepRule = 'last' | 'daily' | 'weekly' | 'monthly';

const keepRules: readonly KeepRule[] = ['last', 'daily', 'weekly', 'monthly'];

/** Holds what the rules read of a backup. */
export type KeptBackup = Pick<CatalogueEntry, 'name' | 'taken_at' | 'outcome' | 'proven_at'> & {
  fault: { code: string } | null;
  deletionBegunAt?: string | null;
};

/**
 * Reads `all`, or counts such as `last=24,daily=14`. A count that is left out is 0. A fault is a predicate for the name
 * of the setting. It names the part, and never repeats a value.
 */
export function readKeepPolicy(text: string): { policy: KeepPolicy } | { fault: string } {
  if (text.trim() === 'all') return { policy: 'all' };
  const counts: Record<KeepRule, number> = { last: 0, daily: 0, weekly: 0, monthly: 0 };
  const seen = new Set<KeepRule>();
  for (const [index, part] of text.split(',').entries()) {
    const [word = '', digits, ...rest] = part.split('=').map((one) => one.trim());
    const rule = keepRules.find((one) => one === word);
    if (rule === undefined)
      return {
        fault: `must be all, or counts of last, daily, weekly and monthly, such as last=24,daily=14: see part ${index + 1}`,
      };
    if (digits === undefined || !/^\d{1,6}$/.test(digits) || rest.length > 0)
      return { fault: `needs a whole number from 0 to 999999 after "${rule}=" (part ${index + 1})` };
    if (seen.has(rule)) return { fault: `has more than one count of "${rule}" (part ${index + 1}): remove one` };
    seen.add(rule);
    counts[rule] = Number(digits);
  }
  if (keepRules.every((rule) => counts[rule] === 0))
    return { fault: 'keeps no backup: give at least one count above 0, or all' };
  return { policy: counts };
}

/** Reads a policy that was checked before. */
export function parseKeepPolicy(text: string): KeepPolicy {
  const read = readKeepPolicy(text);
  if ('fault' in read) throw new Error(`the policy ${read.fault}`);
  return read.policy;
}

/**
 * Selects the backups that the policy no longer keeps, the oldest first. `backups` are in the order of the catalogue,
 * the newest first: times would not do, because a clock may have gone back.
 *
 * Without a proven backup, nothing expires. A backup that is not proven stays while fewer than `last` proven ones are
 * newer, and at least while none is. Backups whose run goes on, and those that differ from the catalogue, stay, too:
 * a person has to look at the latter. Backups that are being deleted do not count.
 */
export function selectExpired(backups: readonly KeptBackup[], policy: KeepPolicy): string[] {
  if (policy === 'all') return [];
  const present = backups.filter(({ deletionBegunAt }) => (deletionBegunAt ?? null) === null);
  const proven = present.filter(isProven);
  const kept = new Set(proven.slice(0, Math.max(1, policy.last)));
  for (const { rule, periodOf } of periods) {
    for (const backup of newestOfEach(proven, periodOf).slice(0, policy[rule])) kept.add(backup);
  }
  let newerProven = 0;
  const expired: string[] = [];
  for (const backup of present) {
    if (isProven(backup)) {
      newerProven += 1;
      if (!kept.has(backup)) expired.push(backup.name);
    } else if (newerProven >= Math.max(1, policy.last) && !isUntouchable(backup)) {
      expired.push(backup.name);
    }
  }
  return expired.reverse();
}

function isProven({ proven_at, outcome }: KeptBackup): boolean {
  return proven_at !== null && outcome !== 'running';
}

function isUntouchable({ outcome, fault }: KeptBackup): boolean {
  return outcome === 'running' || fault?.code === 'stored_backup_damaged';
}

const DAY_MS = 24 * 3_600_000;

const dayOf = (time: string): number => Math.floor(Date.parse(time) / DAY_MS);

/** Periods are numbers that differ for different ones. The first of January 1970 was a Thursday. */
const periods: { rule: KeepRule; periodOf(time: string): number }[] = [
  { rule: 'daily', periodOf: dayOf },
  { rule: 'weekly', periodOf: (time) => Math.floor((dayOf(time) + 3) / 7) },
  {
    rule: 'monthly',
    periodOf: (time) => {
      const date = new Date(time);
      return date.getUTCFullYear() * 12 + date.getUTCMonth();
    },
  },
];

function newestOfEach(backups: readonly KeptBackup[], periodOf: (time: string) => number): KeptBackup[] {
  const newest = new Map<number, KeptBackup>();
  for (const backup of backups) {
    const period = periodOf(backup.taken_at);
    if (!newest.has(period)) newest.set(period, backup);
  }
  return [...newest.values()];
}
