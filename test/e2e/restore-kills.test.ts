import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, test } from 'vitest';
import { sendSignal } from '../../src/dev/processes.ts';
import { createCourse, type Kind, type Operation } from '../setup/faults/kill-course.ts';
import { type Arena, type ArenaNode, openArena, readyAndVerified, type Sight } from '../setup/faults/kills.ts';
import { createMoments, type Moments } from '../setup/faults/moments.ts';
import { asAdmin, json } from '../setup/node/http.ts';
import { tally } from '../setup/node/nodes.ts';
import { createRandom, createSeed, type Random } from '../setup/values/random.ts';

const RESTORES = 200;

/** What the client got: status 0 when its connection broke. */
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

/** Entries for the truncating restore to take out. */
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

/** Says `before` or `after` of what an operation has left, and throws when it is neither. */
function judge({ kind, target }: Operation, before: Sight, after: Sight, label: string): 'before' | 'after' {
  expect(after.fits, label).toBe(true);
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
  if (kind === 'replacing') expect(after.head.seq, label).toBe(before.head.seq + 1);
  if (kind === 'truncating') expect(after.head.seq, label).toBeLessThan(before.head.seq);
  return 'after';
}

/** A client that was told something must not have been told wrong. */
function expectHonest({ status, code }: Answer, outcome: 'before' | 'after', label: string): void {
  if (status === 200) expect(outcome, label).toBe('after');
  else if (status !== 0 && code !== 'commit_outcome_unknown') {
    expect({ status, outcome }, `${label}: ${code}`).toEqual({ status: 503, outcome: 'before' });
  }
}

/** What is killed, and how. */
interface Strike {
  /** Where the nodes run that operations are asked of. */
  victims: 'process' | 'here';
  /** Made ready before the operation begins, so that its first moments can be met as well. */
  arm(arena: Arena, node: ArenaNode): Promise<Blow>;
}

/** Kills after so many ms; resolves when nothing of the operation is under way any more. */
type Blow = (momentMs: number) => Promise<void>;

const onNode: Strike = {
  victims: 'process',
  arm: async (arena, node) => async (momentMs) => {
    await sleep(momentMs);
    await node.end();
    await arena.backendsGone(node);
  },
};

const onBackend: Strike = {
  victims: 'here',
  arm: async (arena, node) => {
    const crash = await arena.watchCrash();
    return async (momentMs) => {
      await sleep(momentMs);
      const [pid] = await arena.backendsOf(node);
      if (pid === undefined) throw new Error('the node has no connection');
      sendSignal(pid, 'SIGKILL');
      await crash.over();
    };
  },
};

type Course = ReturnType<typeof createCourse>;

/** Does each kind of operation once without a kill, which shows how long it takes. */
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

async function run(arena: Arena, strike: Strike): Promise<void> {
  const seed = createSeed();
  const random = createRandom(seed);
  const course = createCourse(arena, random);
  const moments = await measure(arena, course, random);
  const outcomes: string[] = [];
  let restores = 0;
  let victim = await arena.startNode(strike.victims);
  let before = await arena.look();

  for (let round = 1; restores < RESTORES; round += 1) {
    await readyAndVerified(victim);
    // Boots while this round goes on.
    const spare = strike.victims === 'process' ? arena.startNode('process') : undefined;
    const kind = course.next(before);
    if (kind === 'truncating') {
      await addEntries(victim);
      before = await arena.look();
    }
    const operation = course.operation(kind);
    const moment = moments.get(kind)?.next() ?? 0;
    const label = `seed ${seed}, round ${round}, ${kind} killed after ${moment.toFixed(1)} ms`;
    const kill = await strike.arm(arena, victim);
    const answering = ask(victim, operation);
    await kill(moment);

    const prover = await arena.startNode('here');
    const [answer, after, verdict] = await Promise.all([answering, arena.look(), readyAndVerified(prover)]);
    const outcome = judge(operation, before, after, label);
    expectHonest(answer, outcome, label);
    expect(verdict, label).toMatchObject({ ok: true, head: after.head });
    // A node that lives through its server's crash recovers by itself; seen now and then, because it takes a while to notice.
    if (strike === onBackend && round % 20 === 0) expect(await readyAndVerified(victim), label).toEqual(verdict);

    moments.get(kind)?.learn(outcome === 'after');
    outcomes.push(`${kind} ${outcome}`);
    if (kind !== 'undo') restores += 1;
    if (outcome === 'after') course.advance(before, after);
    before = after;
    await victim.end();
    if (spare !== undefined) await prover.end();
    victim = (await spare) ?? prover;
  }
  expectBothEnds(tally(outcomes), `seed ${seed}`);
}

/** Were all of them before, or all after, nothing would have been shown. */
function expectBothEnds(counts: Record<string, number>, label: string): void {
  const least: Record<Kind, number> = { replacing: 15, truncating: 15, undo: 2 };
  for (const [kind, count] of Object.entries(least)) {
    for (const outcome of ['before', 'after']) {
      expect(counts[`${kind} ${outcome}`] ?? 0, `${label}: ${kind} ${outcome}`).toBeGreaterThanOrEqual(count);
    }
  }
}

describe.concurrent(`a kill -9 at ${RESTORES} moments of a restore, and at some of an undo, leaves what was before or what comes after`, () => {
  test.each([
    ['of the node', onNode],
    ['of its process in PostgreSQL', onBackend],
  ])(
    'when it is one %s',
    async (_what, strike) => {
      const arena = await openArena();
      try {
        await run(arena, strike);
      } finally {
        await arena.close();
      }
    },
    900_000,
  );
});
