import { describe, expect, test } from 'vitest';
import { limits } from '../../../src/limits.ts';
import { createCommitWatch } from '../../../src/persistence/probe/commit-watch.ts';
import {
  type CheckOutcome,
  nextProbeState,
  probePauseMs,
  startingState,
} from '../../../src/persistence/probe/verdict.ts';
import { tableRights } from '../../../src/persistence/schema/objects.ts';
import { judgeSchema } from '../../../src/persistence/schema/serves.ts';
import { judgeServing } from '../../../src/persistence/schema/serving.ts';
import type { ServingFacts } from '../../../src/persistence/schema/serving-facts.ts';

const rules = { badChecks: 2 };
const good: CheckOutcome = { kind: 'answered', latencyMs: 4, serving: { database: 'ok', schema: 'ok' } };
const behind: CheckOutcome = {
  kind: 'answered',
  latencyMs: 4,
  serving: { database: 'ok', schema: 'behind', reason: 'schema_behind' },
};
const soundFacts: ServingFacts = {
  readOnly: null,
  schemaVersion: 3,
  compatibleFrom: 3,
  missing: [],
  rights: [],
  grants: [],
  filtered: [],
  state: 'present',
  waiting: [],
};
const slow: CheckOutcome = { kind: 'slow' };
const unreachable: CheckOutcome = { kind: 'unreachable' };

function stateAfter(...outcomes: CheckOutcome[]) {
  return outcomes.reduce((state, outcome) => nextProbeState(state, outcome, rules), startingState);
}

describe('the verdict', () => {
  test('is "starting" before the first check', () => {
    expect(startingState.verdict).toEqual({
      ok: false,
      database: 'starting',
      schema: 'unknown',
      reason: 'starting',
      latencyMs: null,
    });
  });

  test('turns good with the first good check', () => {
    const verdict = { ok: true, database: 'ok', schema: 'ok', latencyMs: 4 };
    expect(stateAfter(good).verdict).toEqual(verdict);
    expect(stateAfter(slow, unreachable, slow, unreachable, good).verdict).toEqual(verdict);
  });

  test('stays "starting" after one bad check, and names the outage after two', () => {
    expect(stateAfter(unreachable).verdict.reason).toBe('starting');
    expect(stateAfter(unreachable, unreachable).verdict).toEqual({
      ok: false,
      database: 'unreachable',
      schema: 'unknown',
      reason: 'db_unreachable',
      latencyMs: null,
    });
  });

  test('names the last bad check if they differ', () => {
    expect(stateAfter(good, slow, slow).verdict.reason).toBe('db_slow');
    expect(stateAfter(good, slow, unreachable).verdict.reason).toBe('db_unreachable');
    const refused: CheckOutcome = { kind: 'unreachable', detail: 'refused' };
    expect(stateAfter(good, refused, { ...refused, detail: 'wrong password' }).verdict.detail).toBe('wrong password');
    expect(stateAfter(good, refused, refused, good).verdict.detail).toBeUndefined();
    expect(stateAfter(good, slow, slow, unreachable, slow).verdict.reason).toBe('db_slow');
  });

  test('keeps a schema fault through a single bad check', () => {
    expect(stateAfter(behind, slow).verdict.reason).toBe('schema_behind');
    expect(stateAfter(behind, slow, good).verdict).toMatchObject({ ok: true });
  });

  test('over every sequence of six checks: good after a good check, bad only after two bad ones in a row', () => {
    const outcomes = [good, behind, slow, unreachable];
    const sequences = Array.from({ length: outcomes.length ** 6 }, (_, number) =>
      Array.from(
        { length: 6 },
        (_, place) => outcomes[Math.floor(number / outcomes.length ** place) % outcomes.length],
      ),
    );
    for (const sequence of sequences) {
      let state = startingState;
      let answered = startingState.verdict;
      let bad = 0;
      for (const outcome of sequence) {
        if (outcome === undefined) continue;
        state = nextProbeState(state, outcome, rules);
        bad = outcome.kind === 'answered' ? 0 : bad + 1;
        if (bad === 0) answered = state.verdict;
        const { ok, reason, database } = state.verdict;
        expect(ok).toBe(reason === undefined);
        if (bad === 0) expect([ok, reason]).toEqual(outcome === good ? [true, undefined] : [false, 'schema_behind']);
        else if (bad === 1) expect(state.verdict).toBe(answered);
        else expect(database).toBe(outcome.kind);
        if (bad >= 2) answered = state.verdict;
      }
    }
  });
});

describe('the schema', () => {
  test.each([
    ['no tables of LOOM', null, null, 'behind'],
    ['an older one', 2, 1, 'behind'],
    ['its own', 3, 1, 'ok'],
    ['its own, without a word on compatibility', 3, null, 'ok'],
    ['a newer one that nodes of this version may serve', 9, 3, 'ok'],
    ['a newer one that only newer nodes may serve', 9, 4, 'ahead'],
    ['a newer one that does not declare compatibility', 4, null, 'ahead'],
  ] as const)('%s', (_, version, compatibleFrom, verdict) => {
    expect(judgeSchema(version, compatibleFrom, 3)).toBe(verdict);
  });

  test('that does not match is no fault of the database', () => {
    expect(
      stateAfter({
        kind: 'answered',
        latencyMs: 4,
        serving: judgeServing(
          { ...soundFacts, schemaVersion: 4, compatibleFrom: 4 },
          { supportedSchemaVersion: 3, hadState: true },
        ),
      }).verdict,
    ).toEqual({
      ok: false,
      database: 'ok',
      schema: 'ahead',
      reason: 'schema_ahead',
      latencyMs: 4,
    });
  });
});

describe('the facts of the database', () => {
  const judge = (facts: Partial<ServingFacts>, hadState = true) =>
    judgeServing({ ...soundFacts, ...facts }, { supportedSchemaVersion: 3, hadState });
  const everyTable = Object.keys(tableRights).map((table) => `table ${table}`);
  const noTables = { schemaVersion: null, compatibleFrom: null, missing: everyTable, state: 'unknown' } as const;

  test.each<[string, Partial<ServingFacts>, string | undefined]>([
    ['all is well', {}, undefined],
    ['a standby', { readOnly: 'recovery' }, 'db_read_only'],
    ['a standby of a database without tables', { readOnly: 'recovery', ...noTables }, 'db_read_only'],
    ['a setting forbids writes', { readOnly: 'setting' }, 'db_read_only'],
    ['no table exists', noTables, 'schema_behind'],
    ['no table is visible', { ...noTables, rights: ['USAGE on schema loom'] }, 'db_forbidden'],
    ['only loom_meta is gone', { ...noTables, missing: ['table loom_meta'] }, 'schema_damaged'],
    ['loom_meta has no version', { schemaVersion: null }, 'schema_damaged'],
    ['an old schema lacks a table', { schemaVersion: 2, missing: ['table loom_new'] }, 'schema_behind'],
    [
      'a newer schema lacks a table',
      { schemaVersion: 4, compatibleFrom: 4, missing: ['table loom_old'] },
      'schema_ahead',
    ],
    ['a function is gone', { missing: ['function loom_commit'], state: 'present' }, 'schema_damaged'],
    ['a right is missing', { rights: ['SELECT on table loom_audit'], state: 'unknown' }, 'db_forbidden'],
    ['a policy applies', { filtered: ['loom_document'] }, 'db_forbidden'],
    ['rows remain without the state', { state: 'lost' }, 'state_missing'],
    ['the state is gone', { state: 'absent' }, 'state_missing'],
  ])('%s', (_, facts, reason) => {
    expect(judge(facts).reason).toBe(reason);
  });

  test('a node that has not seen the state yet is about to create it, but not over remaining rows', () => {
    expect(judge({ state: 'absent' }, false).reason).toBe('starting');
    expect(judge({ state: 'lost' }, false).reason).toBe('state_missing');
  });

  test('the detail names the object and the remedy', () => {
    expect(judge({ missing: ['function loom_commit'] }).detail).toContain('function loom_commit');
    const grants = ['GRANT DELETE ON table loom_audit TO loom;'];
    expect(judge({ rights: ['DELETE on table loom_audit'], grants }).detail).toMatch(/lacks DELETE.+GRANT DELETE/);
    expect(judge({ filtered: ['loom_document'] }).detail).toMatch(/on loom_document,.+BYPASSRLS/);
  });
});

describe('the watch over commits', () => {
  function watchAt(checks: [nowMs: number, waiting: string[]][]) {
    let nowMs = 0;
    const watch = createCommitWatch({ now: () => nowMs });
    return checks.map(([at, waiting]) => {
      nowMs = at;
      return watch.check(waiting)?.reason;
    });
  }

  test('reports a session that has waited for the standby since a check of 2 s ago', () => {
    const same = ['7 12:00'];
    expect(
      watchAt([
        [0, same],
        [limits.maxCommitStallMs - 1, same],
        [limits.maxCommitStallMs, same],
      ]),
    ).toEqual([undefined, undefined, 'db_commits_stalled']);
  });

  test('does not report sessions that each wait for a moment', () => {
    const checks = Array.from({ length: 10 }, (_, second): [number, string[]] => [second * 1_000, [`7 12:0${second}`]]);
    expect(watchAt(checks)).toEqual(checks.map(() => undefined));
    expect(
      watchAt([
        [0, ['7 a']],
        [1_000, []],
        [2_500, ['7 a']],
      ]),
    ).toEqual([undefined, undefined, undefined]);
  });
});

test('pauses are regular while the database answers, and grow to their bound while it does not', () => {
  const pauses = { intervalMs: 1_000, minBackoffMs: 250, maxBackoffMs: 1_000 };
  expect([0, 1, 2, 3, 4, 50, 5_000].map((bad) => probePauseMs(bad, pauses))).toEqual([
    1_000, 250, 500, 1_000, 1_000, 1_000, 1_000,
  ]);
});
