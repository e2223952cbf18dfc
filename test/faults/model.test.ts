import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { compare, staleReads } from './model.ts';
import type { Operation, RecordedEntry } from './operation.ts';
import { drawPlan } from './plan.ts';
import { judge, type Sight } from './watch.ts';

const EPOCH = 'first';

/** A commit that was acknowledged with this revision, at this time. */
function put(id: string, revision: number, more: Partial<Operation> = {}): Operation {
  return {
    id,
    key: undefined,
    changes: [{ op: 'put', name: 'a', value: id }],
    condition: undefined,
    beganMs: revision * 10,
    endedMs: revision * 10 + 5,
    attempts: [],
    outcome: 'acknowledged',
    receipts: [{ epoch: EPOCH, revision, eventId: `event-${revision}` }],
    ...more,
  };
}

function entry(id: string, revision: number, more: Partial<RecordedEntry> = {}): RecordedEntry {
  return {
    seq: revision,
    revision,
    epoch: EPOCH,
    event_id: `event-${revision}`,
    action: 'document.put',
    actor_name: id,
    changes: [{ op: 'put', name: 'a', value: id }],
    ...more,
  };
}

const newEpoch = (revision: number, previous: number): RecordedEntry => ({
  seq: revision,
  revision,
  epoch: 'second',
  event_id: `event-${revision}`,
  action: 'epoch',
  changes: [],
  epoch_change: { reason: 'lineage', previous_epoch: EPOCH, previous_revision: previous },
});

const calm = { promotions: 0, isLossy: false };
const lossy = { promotions: 1, isLossy: true };

test('the model accepts what a good node does', () => {
  const unknown = put('c', 3, { outcome: 'unknown', receipts: [] });
  const operations = [put('a', 1), put('b', 2, { condition: { epoch: EPOCH, revision: 1 } }), unknown];
  const made = [entry('a', 1), entry('b', 2)];
  for (const entries of [made, [...made, entry('c', 3)]]) {
    expect(compare(operations, entries, calm)).toMatchObject({ faults: [], lost: 0, doubled: 0, acknowledged: 2 });
  }
  const afterLoss = [entry('a', 1), newEpoch(2, 1), entry('d', 3, { epoch: 'second' })];
  const retried = put('d', 3, { receipts: [{ epoch: 'second', revision: 3, eventId: 'event-3' }] });
  expect(compare([put('a', 1), put('b', 2), retried], afterLoss, lossy)).toMatchObject({ faults: [], rolledBack: 1 });
});

const planted: [string, Operation[], RecordedEntry[], typeof calm, RegExp][] = [
  ['a lost commit', [put('a', 1)], [], calm, /acknowledged, but lost/],
  ['a lost commit within its epoch', [put('a', 1)], [newEpoch(2, 1)], lossy, /acknowledged, but lost/],
  ['a doubled commit', [put('a', 1)], [entry('a', 1), entry('a', 2)], calm, /made more than once/],
  [
    'a doubled commit of unknown outcome',
    [put('a', 1, { outcome: 'unknown', receipts: [] })],
    [entry('a', 1), entry('a', 2)],
    calm,
    /made more than once/,
  ],
  [
    'a refused commit that was made',
    [put('a', 1, { outcome: 'refused', receipts: [] })],
    [entry('a', 1)],
    calm,
    /refused, but made/,
  ],
  ['another revision', [put('a', 1)], [entry('a', 1, { revision: 2 })], calm, /another revision/],
  ['another event', [put('a', 1)], [entry('a', 1, { event_id: 'x' })], calm, /another revision or event/],
  [
    'another value',
    [put('a', 1)],
    [entry('a', 1, { changes: [{ op: 'put', name: 'a', value: 2 }] })],
    calm,
    /other changes/,
  ],
  ['an entry without its change', [put('a', 1)], [entry('a', 1, { changes: [] })], calm, /other changes/],
  [
    'two conditional commits on one revision',
    [
      put('a', 1),
      put('b', 2, { condition: { epoch: EPOCH, revision: 1 } }),
      put('c', 3, { condition: { epoch: EPOCH, revision: 1 } }),
    ],
    [entry('a', 1), entry('b', 2), entry('c', 3)],
    calm,
    /condition not met.*"id":"c"/,
  ],
  [
    'a document that existed',
    [put('a', 1), put('b', 2, { condition: 'absent' })],
    [entry('a', 1), entry('b', 2)],
    calm,
    /condition not met/,
  ],
  [
    'a commit before one that was acknowledged earlier',
    [put('a', 1, { beganMs: 100, endedMs: 105 }), put('b', 2)],
    [entry('a', 1), entry('b', 2)],
    calm,
    /not after revision 2/,
  ],
  ['a missing entry', [], [entry('a', 1), entry('c', 3)], calm, /entry 3 follows 1/],
  ['a new epoch without a cause', [], [entry('a', 1), newEpoch(2, 1)], calm, /1 new epochs after 0/],
  ['another epoch without an entry', [], [entry('a', 1), entry('b', 2, { epoch: 'x' })], calm, /has another epoch/],
  ['lost commits without a new epoch', [put('a', 1)], [entry('a', 1)], lossy, /no new epoch/],
  [
    'lost commits although no promotion loses any',
    [put('a', 1), put('b', 2)],
    [entry('a', 1), newEpoch(2, 1)],
    { promotions: 1, isLossy: false },
    /beyond the end of their epoch/,
  ],
];

test.each(planted)('the model finds %s', (_what, operations, entries, allowed, expected) => {
  expect(compare(operations, entries, allowed).faults.join('\n')).toMatch(expected);
});

test('the model finds a read that does not show an acknowledged commit', () => {
  const read = (revision: number, beganMs: number) => [{ name: 'a', tag: { epoch: EPOCH, revision }, beganMs }];
  const operations = [put('a', 1), put('b', 2)];
  expect(staleReads(read(1, 26), operations)).toEqual(['a read of a at 26 ms showed revision 1 after 2']);
  expect(staleReads([...read(2, 26), ...read(1, 24)], operations)).toEqual([]);
});

const answered = (atMs: number, status: number, took = 5): Sight['ready'][number] => ({
  fromMs: atMs,
  toMs: atMs + took,
  status,
  reason: '',
  lagMs: 0,
});

test('the watch measures wrong verdicts and slow answers, but not while the harness keeps a node away', () => {
  const seconds = Array.from({ length: 21 }, (_, second) => second * 1_000);
  const commits = [0, 2_000, 20_000].map((atMs) => ({ fromMs: atMs, toMs: atMs + 5, ok: true }));
  const alwaysReady = { ready: seconds.map((atMs) => answered(atMs, 200)), commits };
  expect(judge({ away: [] }, alwaysReady)).toMatchObject({ falselyReadyMs: 18_000, falselyUnreadyMs: 0, readyMs: 5 });
  expect(judge({ away: [{ from: 2_500, to: 19_500 }] }, alwaysReady).falselyReadyMs).toBeLessThan(3_000);
  const neverReady = { ready: seconds.map((atMs) => answered(atMs, 503, 1_200)), commits };
  expect(judge({ away: [] }, neverReady)).toMatchObject({ falselyUnreadyMs: 21_195, readyMs: 1_200 });
  const silent = { ready: [answered(0, 200), answered(1_000, 0, 3_000)], commits: [] };
  expect(judge({ away: [] }, silent)).toMatchObject({ unanswered: 1, readyMs: 3_000 });
  expect(judge({ away: [{ from: 900, to: 1_100 }] }, silent)).toMatchObject({ unanswered: 0, readyMs: 5 });
});

test('a seed gives the same plan again, without faults whose tools are missing', () => {
  const all = { pgbouncer: true, haproxy: true, faketime: true, smallDisk: true };
  const none = { pgbouncer: false, haproxy: false, faketime: false, smallDisk: false };
  const seeds = Array.from({ length: 400 }, (_, seed) => seed);
  const plans = seeds.map((seed) => drawPlan(seed, all, false));
  expect(seeds.map((seed) => drawPlan(seed, all, false))).toEqual(plans);
  const kindsOf = (some: typeof plans): Set<string> =>
    new Set(some.flatMap(({ steps }) => steps.flat()).map((one) => one.kind));
  expect(kindsOf(plans).size).toBe(21);
  const page = readFileSync(new URL('../../docs/faults.md', import.meta.url), 'utf8');
  expect([...kindsOf(plans)].filter((kind) => !page.includes(`\`${kind}\``))).toEqual([]);
  const bare = kindsOf(seeds.map((seed) => drawPlan(seed, none, false)));
  expect([...bare].filter((kind) => /pooler|haproxy|clock|disk/.test(kind))).toEqual([]);
  for (const { steps } of seeds.map((seed) => drawPlan(seed, all, true))) {
    expect(steps).toHaveLength(1);
    expect(Math.max(...steps.flat().map(({ afterMs, lastsMs }) => afterMs + lastsMs))).toBeLessThan(2_500);
  }
});
