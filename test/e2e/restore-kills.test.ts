import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { sendSignal } from '../../src/dev/processes.ts';
import { depth, rounds, seededRandom, seedLabel } from '../setup/depth.ts';
import { type Arena, type ArenaNode, openArena, readyAndVerified, type Sight } from '../setup/faults/arena.ts';
import { createCourse, type Kind, type Operation } from '../setup/faults/kill-course.ts';
import { createMoments, type Moments } from '../setup/faults/kill-moments.ts';
import { asAdmin, json } from '../setup/node/http.ts';
import { tally } from '../setup/node/nodes.ts';
import type { Random } from '../setup/values/random.ts';

const RESTORES = rounds({ quick: 3, full: 200 });

type Outcome = 'before' | 'after';

/** How often each outcome must occur. Kills that all had the same outcome would prove nothing. */
const minCounts: Record<Kind, number> = {
  replacing: rounds({ quick: 1, full: 15 }),
  truncating: rounds({ quick: 1, full: 15 }),
  undo: rounds({ quick: 1, full: 2 }),
};

/** Ends a run in which an outcome does not occur. */
const MAX_ROUNDS = RESTORES * 3 + 20;

/** The answer to the client. Status 0 means that the connection was cut. */
interface Answer {
  status: number;
  code?: string;
}

async function ask(node: ArenaNode, { path, body }: Operation): Promise<Answer> {
  try {
    const url = `${node.url}/v1/admin/persistence/${path}`;
    const answer = await fetch(url, { method: 'POST', headers: { ...asAdmin, ...json }, body });
    const { code } = (await answer.json()) as { code?: string };
    return { status: answer.status, ...(code === undefined ? {} : { code }) };
  } catch {
    return { status: 0 };
  }
}

/** Commits entries that the truncating restore removes. */
async function addEntries(node: ArenaNode): Promise<void> {
  const put = (index: number) =>
    fetch(`${node.url}/v1/documents/extra-${index}`, {
      method: 'PUT',
      headers: { ...asAdmin, ...json },
      body: `${Date.now()}`,
    });
  const answers = await Promise.all(Array.from({ length: 10 }, (_, index) => put(index)));
  for (const answer of answers) expect(await answer.json()).toHaveProperty('revision');
}

/** Returns whether the database has the content before or after the operation. Throws if it has neither. */
function judge({ kind, target }: Operation, before: Sight, after: Sight, label: string): Outcome {
  expect(after.recorded, label).toEqual(after.stored);
  if (after.digest === before.digest) return 'before';
  const { action, restore } = after.lastEntry;
  const expected = { state: target, action: kind === 'undo' ? 'undo' : 'restore' };
  expect({ state: after.stateSha256, action }, label).toEqual(expected);
  expect(after.revision, label).toBeGreaterThan(before.revision);
  expect(after.epoch, label).not.toBe(before.epoch);
  if (kind !== 'undo') {
    const said = {
      head: restore?.previous_head,
      revision: restore?.previous_revision,
      state: restore?.backup.state_sha256,
    };
    expect(said, label).toEqual({ head: before.head, revision: before.revision, state: target });
  }
  if (kind === 'replacing') expect(after.head.seq, label).toBe(before.head.seq + 1 + after.changesEntries);
  if (kind === 'truncating') expect(after.head.seq, label).toBeLessThan(before.head.seq);
  return 'after';
}

/** Expects that the client's answer, if any, matches the outcome. */
function expectHonest({ status, code }: Answer, outcome: Outcome, label: string): void {
  if (status === 200) expect(outcome, label).toBe('after');
  else if (status !== 0 && code !== 'commit_outcome_unknown') {
    expect({ status, outcome }, `${label}: ${code}`).toEqual({ status: 503, outcome: 'before' });
  }
}

interface Strike {
  /** Where the nodes run that execute the operations. */
  victims: 'process' | 'here';
  /** Prepares the kill before the operation begins, so that it can happen at the operation's start. */
  arm(arena: Arena, node: ArenaNode): Promise<Kill>;
}

/** Kills when `moment` resolves. Resolves when no part of the operation is in flight. */
type Kill = (moment: Promise<unknown>) => Promise<void>;

const onNode: Strike = {
  victims: 'process',
  arm: async (arena, node) => async (moment) => {
    await moment;
    await node.end();
    await arena.backendsGone(node);
  },
};

const onBackend: Strike = {
  victims: 'here',
  arm: async (arena, node) => {
    const crash = await arena.watchCrash();
    return async (moment) => {
      await moment;
      const [pid] = await arena.backendsOf(node);
      if (pid === undefined) throw new Error('The node has no connection.');
      sendSignal(pid, 'SIGKILL');
      await crash.over();
    };
  },
};

/** When to kill. `ms` counts from the sending of the request. */
type Moment = 'at once' | 'after the answer' | { ms: number };

/** Returns a random moment. For an outcome that is `wanted`, returns one at which it is certain. */
function nextMoment(kind: Kind, wanted: string[], moments: Map<Kind, Moments>): Moment {
  if (wanted.includes(`${kind} before`)) return 'at once';
  if (wanted.includes(`${kind} after`)) return 'after the answer';
  return { ms: moments.get(kind)?.next() ?? 0 };
}

type Course = ReturnType<typeof createCourse>;

/** Runs each kind of operation once without a kill, to measure its duration. */
async function measure(arena: Arena, course: Course, random: Random): Promise<Map<Kind, Moments>> {
  const node = await arena.startNode('process');
  const moments = new Map<Kind, Moments>();
  await readyAndVerified(node);
  for (const kind of ['replacing', 'undo', 'replacing', 'truncating'] as const) {
    if (kind === 'truncating') await addEntries(node);
    const before = await arena.look();
    const operation = course.operation(kind);
    const beganMs = performance.now();
    expect(await ask(node, operation), kind).toEqual({ status: 200 });
    moments.set(kind, createMoments(random, performance.now() - beganMs));
    const after = await arena.look();
    expect(judge(operation, before, after, kind)).toBe('after');
    course.advance(before, after);
  }
  await node.end();
  return moments;
}

async function run(arena: Arena, strike: Strike, purpose: string): Promise<void> {
  const random = seededRandom(purpose);
  const course = createCourse(arena, random);
  const moments = await measure(arena, course, random);
  const outcomes: string[] = [];
  let restores = 0;
  let victim = await arena.startNode(strike.victims);
  let before = await arena.look();

  const isDone = (round: number): boolean =>
    restores >= RESTORES && (round > MAX_ROUNDS || lacking(outcomes).length === 0);
  for (let round = 1; !isDone(round); round += 1) {
    // A quick run begins with each outcome. A full run ends with those that its random moments have missed.
    const wanted = depth === 'quick' || restores >= RESTORES ? lacking(outcomes) : [];
    await readyAndVerified(victim);
    // The next victim starts during this round.
    const spare = strike.victims === 'process' ? arena.startNode('process') : undefined;
    const kind = course.next(before, { wantsUndo: wanted.some((outcome) => outcome.startsWith('undo')) });
    if (kind === 'truncating') {
      await addEntries(victim);
      before = await arena.look();
    }
    const operation = course.operation(kind);
    const moment = nextMoment(kind, wanted, moments);
    const label = `${seedLabel}, round ${round}, ${kind} killed ${JSON.stringify(moment)}`;
    const kill = await strike.arm(arena, victim);
    const answering = ask(victim, operation);
    await kill(moment === 'after the answer' ? answering : sleep(moment === 'at once' ? 0 : moment.ms));

    const prover = await arena.startNode('here');
    const [answer, after, verdict] = await Promise.all([answering, arena.look(), readyAndVerified(prover)]);
    const outcome = judge(operation, before, after, label);
    expectHonest(answer, outcome, label);
    expect(verdict, label).toMatchObject({ ok: true, head: after.head });
    // A node recovers by itself after its server crashes. It is slow to notice the crash, so few rounds check this.
    if (strike === onBackend && round % 20 === 1) expect(await readyAndVerified(victim), label).toEqual(verdict);

    if (typeof moment === 'object') moments.get(kind)?.learn(outcome === 'after');
    outcomes.push(`${kind} ${outcome}`);
    if (kind !== 'undo') restores += 1;
    if (outcome === 'after') course.advance(before, after);
    before = after;
    await victim.end();
    if (spare !== undefined) await prover.end();
    victim = (await spare) ?? prover;
  }
  expect(lacking(outcomes), `${seedLabel}: ${JSON.stringify(tally(outcomes))}`).toEqual([]);
}

/** Returns the outcomes that have not yet occurred often enough. */
function lacking(outcomes: string[]): string[] {
  const counts = tally(outcomes);
  return Object.entries(minCounts).flatMap(([kind, min]) =>
    (['before', 'after'] satisfies Outcome[])
      .map((outcome) => `${kind} ${outcome}`)
      .filter((name) => (counts[name] ?? 0) < min),
  );
}

describe.concurrent(`kill -9 at ${RESTORES} moments of a restore, and some of an undo, leaves the state before or after it`, () => {
  test.each([
    ['the node', onNode],
    ['its process in PostgreSQL', onBackend],
  ])(
    'when it hits %s',
    async (what, strike) => {
      const arena = await openArena();
      try {
        await run(arena, strike, `kills ${what}`);
      } finally {
        await arena.close();
      }
    },
    900_000,
  );
});
