import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';
import {
  type KeepPolicy,
  type KeptBackup,
  parseKeepPolicy,
  readKeepPolicy,
  selectExpired,
} from '../../../src/backup/stored/retention.ts';
import { rounds } from '../../setup/depth.ts';

describe('a policy', () => {
  it.each([
    ['all', 'all'],
    [' all ', 'all'],
    ['last=24,daily=14,weekly=8,monthly=12', { last: 24, daily: 14, weekly: 8, monthly: 12 }],
    ['monthly = 1 , last=0', { last: 0, daily: 0, weekly: 0, monthly: 1 }],
    ['last=007', { last: 7, daily: 0, weekly: 0, monthly: 0 }],
  ])('%j', (text, policy) => {
    expect(readKeepPolicy(text)).toEqual({ policy });
  });

  it.each([
    ['', /^must be all, or counts of last/],
    ['last=1,yearly=2', /see part 2$/],
    ['Last=1', /see part 1$/],
    ['last=1,', /see part 2$/],
    ['last=1,all', /see part 2$/],
    ['last=1;daily=2', /^needs a whole number from 0 to 999999 after "last=" \(part 1\)$/],
    ['last', /after "last="/],
    ['last=', /after "last="/],
    ['daily=-1', /after "daily="/],
    ['daily=1.5', /after "daily="/],
    ['daily=1e3', /after "daily="/],
    ['daily=1=2', /after "daily="/],
    ['weekly=1000000', /after "weekly="/],
    ['last=1,daily=2,last=3', /^has more than one count of "last" \(part 3\)/],
    ['last=0', /^keeps no backup/],
    ['last=0,daily=0', /^keeps no backup/],
  ])('%j is refused', (text, fault) => {
    expect(readKeepPolicy(text)).toEqual({ fault: expect.stringMatching(fault) });
    expect(() => parseKeepPolicy(text)).toThrow();
  });
});

const HOUR_MS = 3_600_000;

/** Makes a backup that was taken this many hours after the beginning of 2026, a Thursday. */
function backupAt(hour: number, members: Partial<KeptBackup> = {}): KeptBackup {
  const takenAt = new Date(Date.UTC(2026, 0, 1) + hour * HOUR_MS).toISOString();
  return { name: `b${hour}`, taken_at: takenAt, outcome: 'proven', proven_at: takenAt, fault: null, ...members };
}
const unproven = { outcome: 'failed', proven_at: null } as const;
const keep = (counts: Partial<Exclude<KeepPolicy, 'all'>>): KeepPolicy => ({
  last: 0,
  daily: 0,
  weekly: 0,
  monthly: 0,
  ...counts,
});
const hours = (backups: KeptBackup[], policy: KeepPolicy): string[] => selectExpired(backups, policy);

describe('of the backups', () => {
  it('the last ones stay, and the oldest go first', () => {
    const backups = [5, 4, 3, 2, 1].map((hour) => backupAt(hour));
    expect(hours(backups, keep({ last: 2 }))).toEqual(['b1', 'b2', 'b3']);
    expect(hours(backups, 'all')).toEqual([]);
  });

  it('the newest of a day, of an ISO week and of a month in UTC stay', () => {
    // 3 January is a Saturday, 5 January a Monday, 1 February a Sunday.
    const at = (day: number, hour: number): number => 24 * (day - 1) + hour;
    const backups = [at(32, 0), at(31, 23), at(31, 0), at(5, 0), at(4, 23), at(3, 1), at(1, 0)].map((h) => backupAt(h));
    const kept = (policy: KeepPolicy) => {
      const gone = new Set(selectExpired(backups, policy));
      return backups.filter(({ name }) => !gone.has(name)).map(({ taken_at }) => taken_at.slice(5, 13));
    };
    expect(kept(keep({ daily: 3 }))).toEqual(['02-01T00', '01-31T23', '01-05T00']);
    expect(kept(keep({ weekly: 9 }))).toEqual(['02-01T00', '01-05T00', '01-04T23']);
    expect(kept(keep({ weekly: 2 }))).toEqual(['02-01T00', '01-05T00']);
    expect(kept(keep({ monthly: 9 }))).toEqual(['02-01T00', '01-31T23']);
    expect(kept(keep({ monthly: 1, daily: 2 }))).toEqual(['02-01T00', '01-31T23']);
  });

  it('none goes without a proven one, however old', () => {
    const backups = [9, 5, 1].map((hour) => backupAt(hour, unproven));
    expect(hours(backups, keep({ last: 1 }))).toEqual([]);
  });

  it('an unproven one goes when as many proven ones are newer as the policy keeps as the last', () => {
    const backups = [backupAt(9, unproven), backupAt(8), backupAt(7, unproven), backupAt(6), backupAt(5, unproven)];
    expect(hours(backups, keep({ last: 2 }))).toEqual(['b5']);
    expect(hours(backups, keep({ last: 1 }))).toEqual(['b5', 'b6', 'b7']);
    expect(hours(backups, keep({ daily: 9 }))).toEqual(['b5', 'b6', 'b7']);
  });

  it('those stay that are in use, or differ from the catalogue', () => {
    const backups = [
      backupAt(9),
      backupAt(8, { outcome: 'running', proven_at: null }),
      backupAt(7, { ...unproven, fault: { code: 'stored_backup_damaged' } }),
      backupAt(6, { ...unproven, fault: { code: 'proof_mismatch' } }),
      backupAt(5, { deletionBegunAt: '2026-01-01T00:00:00Z' }),
    ];
    expect(hours(backups, keep({ last: 1 }))).toEqual(['b6']);
  });

  it('the newest one stays although a clock had gone forward before', () => {
    const backups = [backupAt(2), backupAt(24 * 400), backupAt(1)];
    expect(hours(backups, keep({ last: 1 }))).toEqual(['b1', 'b9600']);
  });
});

const policies = fc
  .record({ last: fc.nat(6), daily: fc.nat(6), weekly: fc.nat(5), monthly: fc.nat(4) })
  .filter((counts) => Object.values(counts).some((count) => count > 0));

/** Catalogues with gaps of hours to weeks, the newest first. */
const catalogues = fc
  .array(
    fc.record({
      gap: fc.oneof(
        fc.integer({ min: 1, max: 5 }),
        fc.integer({ min: 6, max: 40 }),
        fc.integer({ min: 41, max: 1_000 }),
      ),
      kind: fc.constantFrom('proven', 'proven', 'proven', 'failed', 'withdrawn', 'damaged', 'running', 'going'),
    }),
    { maxLength: 60 },
  )
  .map((steps) => {
    let hour = 0;
    return steps
      .map(({ gap, kind }) => {
        hour += gap;
        if (kind === 'failed') return backupAt(hour, unproven);
        if (kind === 'withdrawn') return backupAt(hour, { proven_at: null, fault: { code: 'proof_mismatch' } });
        if (kind === 'damaged') return backupAt(hour, { proven_at: null, fault: { code: 'stored_backup_damaged' } });
        if (kind === 'running') return backupAt(hour, { outcome: 'running', proven_at: null });
        if (kind === 'going') return backupAt(hour, { deletionBegunAt: '2026-01-01T00:00:00Z' });
        return backupAt(hour);
      })
      .reverse();
  });

const isProven = (backup: KeptBackup): boolean => backup.proven_at !== null && backup.deletionBegunAt === undefined;

function without(backups: KeptBackup[], names: string[]): KeptBackup[] {
  return backups.filter(({ name }) => !names.includes(name));
}

/** Week of ISO 8601, found by its Thursday. */
function isoWeek(time: string): string {
  const date = new Date(time);
  date.setUTCDate(date.getUTCDate() + 4 - (date.getUTCDay() || 7));
  const first = Date.UTC(date.getUTCFullYear(), 0, 1);
  return `${date.getUTCFullYear()}-${Math.floor((date.getTime() - first) / (7 * 24 * HOUR_MS))}`;
}

const periodsOf = {
  last: (backup: KeptBackup) => backup.name,
  daily: (backup: KeptBackup) => backup.taken_at.slice(0, 10),
  weekly: (backup: KeptBackup) => isoWeek(backup.taken_at),
  monthly: (backup: KeptBackup) => backup.taken_at.slice(0, 7),
};

test('the rule keeps what the policy says, and nothing else that is proven', () => {
  fc.assert(
    fc.property(catalogues, policies, (backups, policy) => {
      const expired = selectExpired(backups, policy);
      const proven = backups.filter(isProven);
      const wanted = new Set(proven.slice(0, 1));
      for (const rule of ['last', 'daily', 'weekly', 'monthly'] as const) {
        const found = [...new Set(proven.map(periodsOf[rule]))].slice(0, policy[rule]);
        for (const period of found) {
          const newest = proven.find((backup) => periodsOf[rule](backup) === period);
          if (newest !== undefined) wanted.add(newest);
        }
      }
      expect(new Set(without(proven, expired))).toEqual(wanted);
      const newest = proven[0];
      const newer = newest === undefined ? backups : backups.slice(0, backups.indexOf(newest) + 1);
      expect(without(newer, expired)).toEqual(newer);
      const untouchable = backups.filter(
        ({ outcome, fault, deletionBegunAt }) =>
          outcome === 'running' || fault?.code === 'stored_backup_damaged' || deletionBegunAt !== undefined,
      );
      expect(without(untouchable, expired)).toEqual(untouchable);
    }),
    { numRuns: rounds({ quick: 100, full: 10_000 }) },
  );
});

test('a second application finds nothing, also after a first that was interrupted', () => {
  fc.assert(
    fc.property(catalogues, policies, fc.nat(60), (backups, policy, done) => {
      const expired = selectExpired(backups, policy);
      const rest = without(backups, expired.slice(0, done));
      expect(selectExpired(rest, policy)).toEqual(expired.slice(done));
    }),
    { numRuns: rounds({ quick: 100, full: 10_000 }) },
  );
});

test('time alone expires nothing, and a new proven backup at most one of each rule', () => {
  fc.assert(
    fc.property(catalogues, policies, fc.integer({ min: 1, max: 24 * 40 }), (backups, policy, later) => {
      const rest = without(backups, selectExpired(backups, policy));
      const lastHour = Number(backups[0]?.name.slice(1) ?? 0);
      const next = [backupAt(lastHour + later), ...rest];
      const proven = new Set(rest.filter(isProven).map(({ name }) => name));
      const rules = Object.values({ ...policy, last: Math.max(1, policy.last) }).filter((count) => count > 0).length;
      expect(selectExpired(next, policy).filter((name) => proven.has(name)).length).toBeLessThanOrEqual(rules);
      const failed = [backupAt(lastHour + later, unproven), ...rest];
      expect(selectExpired(failed, policy)).toEqual([]);
    }),
    { numRuns: rounds({ quick: 100, full: 10_000 }) },
  );
});
