import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Continuity, checkAgainst } from '../../../src/backup/offline/against.ts';
import type { OpenBackup } from '../../../src/backup/offline/read.ts';
import type { Trail } from '../../../src/backup/offline/trail.ts';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { isLoomError } from '../../../src/errors.ts';
import {
  append,
  backupOf,
  type Entry,
  importAll,
  put,
  type TrailBackupOptions,
  truncate,
} from '../../setup/backup/trails.ts';
import { rounds } from '../../setup/depth.ts';

const EARLY = '2026-01-01T00:00:00.000000Z';

function openText(text: string, chunkBytes = 4096): OpenBackup {
  const bytes = Buffer.from(text);
  return async function* () {
    for (let at = 0; at < bytes.length; at += chunkBytes) yield bytes.subarray(at, at + chunkBytes);
  };
}

async function trailOf(text: string, chunkBytes?: number): Promise<Trail> {
  const open = openText(text, chunkBytes);
  return { ...(await verifyBackup(open, { schemaVersion: 1 })), open };
}

type Verdict = Continuity | { kind: string; seq: number | undefined; detail: string };

/** Returns the result of `--against`, or the code, seq and detail of its error. */
async function judgeTexts(file: string, earlier: string, window?: number, chunkBytes?: number): Promise<Verdict> {
  const trails = [await trailOf(file, chunkBytes), await trailOf(earlier, chunkBytes)] as const;
  try {
    return await checkAgainst(...trails, window);
  } catch (error) {
    if (!isLoomError(error)) throw error;
    return { kind: error.code, seq: error.place.seq, detail: error.message };
  }
}

interface How {
  file?: TrailBackupOptions;
  earlier?: TrailBackupOptions;
}

function judge(file: Entry[], earlier: Entry[], how: How = {}): Promise<Verdict> {
  return judgeTexts(backupOf(file, how.file), backupOf(earlier, { exportedAt: EARLY, ...how.earlier }));
}

const ten = put([], 1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
const twenty = put(ten, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20);
const cut = ten.slice(0, 7);
const fork = put(cut, 'other 8', 'other 9', 'other 10', 'other 11', 'other 12');

describe('a continued trail', () => {
  it.each<[string, Entry[], Entry[], How]>([
    ['with more entries', twenty, ten, {}],
    ['with no more entries', ten, ten, {}],
    ['from an empty earlier backup', twenty, [], {}],
    ['from an empty earlier backup, with only the end in the file', twenty, [], { file: { last: 3 } }],
    ['with only the end in the earlier backup', twenty, ten, { earlier: { last: 3 } }],
    ['with only the head in the earlier backup', twenty, ten, { earlier: { last: null } }],
    ['in a file that begins within the earlier backup', twenty, ten, { file: { last: 15 } }],
    ['in a file that begins right after the head of the earlier backup', twenty, ten, { file: { last: 10 } }],
    ['in a file that has the same head and nothing else', ten, ten, { file: { last: null } }],
    [
      'in a file and an earlier backup that have the same head and nothing else',
      ten,
      ten,
      { file: { last: null }, earlier: { last: null } },
    ],
    ['on another instance', twenty, ten, { file: { header: { state_key: 'b', instance_id: 'b', epoch: 'b' } } }],
  ])('%s is recognized', async (_what, file, earlier, how) => {
    expect(await judge(file, earlier, how)).toEqual({ kind: 'continued' });
  });

  it('is recognized with any order of the members in the file', async () => {
    const turned = JSON.stringify(Object.fromEntries(Object.entries(JSON.parse(backupOf(twenty))).reverse()), null, 2);
    expect(await judgeTexts(turned, backupOf(ten), 1, 7)).toEqual({ kind: 'continued' });
    expect(await judgeTexts(turned, backupOf(fork), 1, 7)).toMatchObject({ kind: 'audit_history_lost', seq: 8 });
  });
});

describe('a changed trail', () => {
  it('is detected at the first missing entry of any removed tail, with and without new entries', async () => {
    for (let to = 0; to < ten.length; to += 1) {
      const shorter = ten.slice(0, to);
      const lost = { kind: 'audit_history_lost', seq: to + 1 };
      const missing = await judge(shorter, ten);
      const ends = `FILE lacks the last entries of EARLIER: EARLIER ends with entry 10, FILE with entry ${to}.`;
      expect(missing).toMatchObject({ ...lost, detail: expect.stringContaining(ends) });
      for (const more of [['a'], ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l']]) {
        const differs = await judge(put(shorter, ...more), ten);
        expect(differs).toMatchObject({ ...lost, detail: expect.stringContaining(`Entry ${to + 1} differs`) });
      }
    }
  });

  it.each<[string, Entry[], Entry[], How, number]>([
    ['only the end is in both files', fork, ten, { file: { last: 6 }, earlier: { last: 6 } }, 8],
    ['the earlier backup begins where the trails diverge', fork, ten, { earlier: { last: 3 } }, 8],
    ['the earlier backup begins after that', fork, ten, { earlier: { last: 2 } }, 9],
    ['the earlier backup has the head only', fork, ten, { earlier: { last: null } }, 10],
    ['the earlier backup has the head only, and the file ends before', cut, ten, { earlier: { last: null } }, 8],
    ['the earlier backup begins after the end of the file', cut, ten, { earlier: { last: 2 } }, 8],
    ['the file has the head only', cut, ten, { file: { last: null } }, 8],
  ])('is detected when %s', async (_what, file, earlier, how, seq) => {
    expect(await judge(file, earlier, how)).toMatchObject({ kind: 'audit_history_lost', seq });
  });
});

describe('two files with too few entries', () => {
  const unproven = 'audit_history_unproven';

  it.each<[string, Entry[], Entry[], How, string]>([
    ['the file begins too late', twenty, ten, { file: { last: 9 } }, 'begins with entry 12'],
    ['the trails diverge before the file begins', fork, ten, { file: { last: 3 } }, 'begins with entry 10'],
    ['the file has no entries', twenty, ten, { file: { last: null } }, 'has no entries'],
    ['the file has no entries and another head', put(cut, 8, 9, 'x'), ten, { file: { last: null } }, 'has no entries'],
  ])('are reported as unproven when %s', async (_what, file, earlier, how, detail) => {
    expect(await judge(file, earlier, how)).toMatchObject({ kind: unproven, detail: expect.stringContaining(detail) });
  });

  it.each([undefined, 4, null])(
    'are reported as swapped when the file is older (last entries of the newer: %s)',
    async (last) => {
      const how = { file: { exportedAt: EARLY }, earlier: { exportedAt: '2026-01-03T00:00:00.000000Z', last } };
      const verdict = await judge(ten, twenty, how as How);
      expect(verdict).toMatchObject({ kind: unproven, detail: expect.stringContaining('FILE is older') });
      const parted = await judge(fork, ten, {
        file: { exportedAt: EARLY },
        earlier: how.earlier as TrailBackupOptions,
      });
      expect(parted).toMatchObject({ kind: 'audit_history_lost', detail: expect.stringContaining('two are swapped') });
    },
  );

  it('are not reported as swapped when the export time is malformed', async () => {
    for (const exportedAt of ['0', '', '2025']) {
      expect(await judge(cut, ten, { file: { exportedAt } })).toMatchObject({ kind: 'audit_history_lost', seq: 8 });
    }
  });
});

describe('a truncating restore', () => {
  const restored = put(truncate(ten, 4, 'drill'), 'after');
  const by = { seq: 5, requestId: 'drill', replacedEntries: 6, previousHead: { seq: 10, hash: ten[9]?.hash } };

  it('explains every earlier trail, and is named', async () => {
    for (let to = 1; to <= 10; to += 1) {
      const verdict = await judge(restored, ten.slice(0, to));
      expect(verdict).toMatchObject(
        to <= 4 ? { kind: 'continued' } : { kind: 'taken_out', from: 5, imported: 0, isSameBefore: true, by },
      );
    }
  });

  it('explains a partial trail that is recognizably the same trail', async () => {
    const taken = { kind: 'taken_out', by };
    expect(await judge(restored, ten, { earlier: { last: 6 } })).toMatchObject({
      ...taken,
      isSameBefore: true,
      from: 5,
    });
    expect(await judge(restored, ten, { earlier: { last: 2 } })).toMatchObject({
      ...taken,
      isSameBefore: false,
      from: 9,
    });
    expect(await judge(restored, ten, { earlier: { last: null } })).toMatchObject({ ...taken, from: 10 });
    expect(await judge(restored, ten, { file: { last: 2 } })).toMatchObject({ ...taken, from: 5 });
    for (const last of [2, null]) {
      const unproven = { kind: 'audit_history_unproven', detail: expect.stringContaining('may have been') };
      expect(await judge(restored, ten.slice(0, 9), { earlier: { last } })).toMatchObject(unproven);
    }
  });

  it('does not explain the loss of a different trail', async () => {
    const other = put(ten.slice(0, 4), 'v', 'w', 'x', 'y', 'z', 'last');
    const lost = { kind: 'audit_history_lost', seq: 5 };
    expect(await judge(restored, other)).toMatchObject(lost);
    expect(await judge(restored, other, { earlier: { last: null } })).toMatchObject({ ...lost, seq: 7 });
    expect(await judge(put(truncate(fork, 8), 'after'), ten)).toMatchObject({ ...lost, seq: 8 });
  });

  it('explains the entries that an earlier, removed restore removed only if it names that restore', async () => {
    const twice = put(truncate(restored, 4, 'again'), 'once more');
    expect(await judge(twice, ten)).toMatchObject({ kind: 'audit_history_lost', seq: 7 });
    const replaced_restores = [{ previous_head: { seq: 10, hash: ten[9]?.hash } }];
    const { seq, hash } = restored.at(-1) ?? { seq: 0, hash: '' };
    const restore = { replaced_entries: seq - 2, previous_head: { seq, hash }, replaced_restores };
    const named = put(append(ten.slice(0, 2), { action: 'restore', restore }), 'once more');
    const by = { seq: 3, replacedEntries: 8, previousHead: { seq: 10 }, includesEarlierRestore: true };
    expect(await judge(named, ten)).toMatchObject({ kind: 'taken_out', from: 3, by });
    expect(await judge(named, ten.slice(0, 8))).toMatchObject({ kind: 'taken_out', from: 3, by });
    expect(await judge(named, put(ten, 'x'))).toMatchObject({ kind: 'audit_history_lost', seq: 11 });
    expect(await judge(twice, restored)).toMatchObject({ kind: 'taken_out', by: { requestId: 'again' } });
    expect(await judge(restored, ten)).toMatchObject({ kind: 'taken_out', by: { requestId: 'drill' } });
  });

  it.each([
    { replaced_entries: 6, previous_head: { seq: 11, hash: '0'.repeat(64) } },
    { replaced_entries: 0, previous_head: { seq: 4, hash: '0'.repeat(64) } },
    { replaced_entries: '6', previous_head: { seq: 10, hash: ten[9]?.hash } },
    { replaced_entries: 6, previous_head: null },
    { replaced_entries: 6 },
    null,
  ])('explains nothing when its entry is inconsistent: %j', async (restore) => {
    const odd = append(ten.slice(0, 4), { action: 'restore', restore });
    expect(await judge(odd, ten)).toMatchObject({ kind: 'audit_history_lost', seq: 5 });
  });
});

describe('an imported trail', () => {
  const tail = ten.slice(7);

  it('is found entry by entry, in any order and inside other imports', async () => {
    const imported = { kind: 'imported', from: 8, imported: 3, isSameBefore: true };
    expect(await judge(importAll(fork, tail), ten)).toEqual(imported);
    expect(await judge(importAll(fork, tail.toReversed()), ten)).toEqual(imported);
    const elsewhere = importAll(put([], 'x'), ten);
    expect(await judge(importAll(fork, elsewhere), ten)).toEqual(imported);
    expect(await judge(importAll(put([], 'x'), ten), ten, { file: { last: 10 } })).toMatchObject({
      imported: 10,
      from: 1,
    });
    expect(await judge(importAll(fork, tail), ten, { earlier: { last: 2 } })).toMatchObject({
      kind: 'imported',
      from: 9,
      isSameBefore: false,
    });
    expect(await judge(importAll(fork, tail), ten, { earlier: { last: null } })).toMatchObject({
      kind: 'imported',
      from: 10,
    });
  });

  it('is incomplete when an entry is missing or its content does not match its hash', async () => {
    const lost = { kind: 'audit_history_lost', seq: 9 };
    expect(await judge(importAll(fork, [tail[0], tail[2]] as Entry[]), ten)).toMatchObject(lost);
    const edited = tail.map((entry, index) => (index === 1 ? { ...entry, actor: 'client' } : entry));
    expect(await judge(importAll(fork, edited), ten)).toMatchObject(lost);
    const unhashed = tail.map((entry, index) => (index === 1 ? { ...entry, hash: '0'.repeat(64) } : entry));
    expect(await judge(importAll(fork, unhashed), ten)).toMatchObject(lost);
  });

  it('counts the entries that were imported again after a truncating restore', async () => {
    const out = truncate(ten, 7, 'drill');
    expect(await judge(importAll(out, tail), ten)).toMatchObject({ kind: 'imported', imported: 3 });
    expect(await judge(importAll(out, tail.slice(1)), ten)).toMatchObject({ kind: 'taken_out', imported: 2, from: 8 });
    const twice = importAll(truncate(out, 7, 'again'), tail.slice(1));
    expect(await judge(twice, ten)).toMatchObject({ kind: 'taken_out', imported: 2, by: { requestId: 'again' } });
  });

  it.each([
    undefined,
    null,
    'text',
    [],
    { original: null },
    { original: 7 },
    { original: {} },
    { original: { hash: {} } },
  ])('does not count an import of an unexpected shape: %j', async (odd) => {
    const file = append(fork, { action: 'audit.import', ...(odd === undefined ? {} : { import: odd }) });
    expect(await judge(file, ten)).toMatchObject({ kind: 'audit_history_lost', seq: 8 });
  });
});

it('the first missing entry is found for any two trails, windows and chunk sizes', async () => {
  const scenario = fc.record({
    before: fc.nat(6),
    tail: fc.nat(9),
    others: fc.nat(4),
    picked: fc.array(fc.nat(8), { maxLength: 12 }),
    window: fc.integer({ min: 1, max: 4 }),
    chunkBytes: fc.integer({ min: 100, max: 5000 }),
  });
  await fc.assert(
    fc.asyncProperty(scenario, async ({ before, tail, others, picked, window, chunkBytes }) => {
      const shared = put([], ...Array.from({ length: before }, (_, index) => index));
      const earlier = put(shared, ...Array.from({ length: tail }, (_, index) => `mine ${index}`));
      const originals = [...new Set(picked)].flatMap((index) => earlier.slice(before)[index] ?? []);
      const file = importAll(put(shared, ...Array.from({ length: others }, (_, index) => `other ${index}`)), originals);
      const gone = earlier.slice(before).find((entry) => !originals.includes(entry));
      const verdict = await judgeTexts(backupOf(file), backupOf(earlier), window, chunkBytes);
      if (gone !== undefined) expect(verdict).toMatchObject({ kind: 'audit_history_lost', seq: gone.seq });
      else if (tail === 0) expect(verdict).toEqual({ kind: 'continued' });
      else expect(verdict).toEqual({ kind: 'imported', from: before + 1, imported: tail, isSameBefore: true });
    }),
    { numRuns: rounds({ quick: 40, full: 200 }) },
  );
});

it('each backup of a history continues the previous one after any commits and restores', async () => {
  const step = fc.oneof(
    fc.constant({ kind: 'put' as const }),
    fc.record({ kind: fc.constant('truncate' as const), to: fc.nat(20) }),
    fc.record({ kind: fc.constant('import' as const), of: fc.nat(20) }),
  );
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 12 }), async (steps) => {
      const history: Entry[][] = [put([], 'first', 'second')];
      for (const [index, one] of steps.entries()) {
        const live = history.at(-1) ?? [];
        if (one.kind === 'put') history.push(put(live, `step ${index}`));
        if (one.kind === 'truncate') history.push(truncate(live, one.to % live.length));
        if (one.kind === 'import') {
          const known = history[one.of % history.length] ?? [];
          history.push(
            importAll(
              live,
              known.filter((entry) => !live.includes(entry)),
            ),
          );
        }
      }
      for (const [index, earlier] of history.slice(0, -1).entries()) {
        const verdict = await judge(history[index + 1] ?? [], earlier);
        expect(['continued', 'taken_out', 'imported']).toContain(verdict.kind);
        expect(verdict.kind === 'continued').toBe(history[index + 1]?.includes(earlier.at(-1) as Entry));
      }
    }),
    { numRuns: rounds({ quick: 20, full: 100 }) },
  );
});
