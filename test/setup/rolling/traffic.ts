// Room `rolling`: upgrades and failovers under load. `traffic.ts` runs the clients, and `trail.ts` checks the result.

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { expect } from 'vitest';
import { rounds, seededRandom } from '../depth.ts';
import { tally } from '../node/nodes.ts';
import type { Random } from '../values/random.ts';

/** A change that a node has acknowledged. */
export interface Acknowledged {
  eventId: string;
  node: string;
  atMs: number;
}

export interface TrafficOptions {
  /** The URLs of the nodes. Each request goes to a random one. */
  nodes: string[];
  headers: Record<string, string>;
  clients: number;
  /** Adds a client for each node that sends it one PUT after another, so that no node waits for its first commit. */
  hasWriters?: boolean;
  /** Codes of problems after which a client sends the request again, with the same key, as the errors advise. */
  retryCodes?: readonly string[];
}

export interface Traffic {
  /** Sends further requests to these nodes only. */
  sendTo(nodes: string[]): void;
  acknowledged: readonly Acknowledged[];
  /** Counts the requests by kind and outcome. */
  outcomes(): Record<string, number>;
  /** Counts the requests that were sent again, by the code of the failure. */
  retried(): Record<string, number>;
  /** Returns the sentences about requests that failed, or returned something wrong. */
  faults(): string[];
  /** Resolves when each node has acknowledged this many more changes. */
  untilEachAcknowledges(count: number): Promise<void>;
  /** Lets each client finish its request. */
  stop(): Promise<void>;
}

interface Answer {
  status: number;
  code: string | undefined;
  tag: string | undefined;
  body: Record<string, unknown>;
}

interface Call {
  method: 'GET' | 'PUT' | 'PATCH' | 'DELETE';
  name: string;
  body?: Record<string, unknown>;
  ifMatch?: string;
}

const COUNTER = 'counter';
const PAUSE_MS = rounds({ quick: 10, full: 2 });

/** How long a client repeats one request. Longer than a node itself tries to commit. */
const PATIENCE_MS = 60_000;

/** Starts clients that put, patch, delete and read documents of their own, and increment a shared counter. */
export async function startTraffic(options: TrafficOptions): Promise<Traffic> {
  const { nodes, headers, clients, hasWriters = false, retryCodes = [] } = options;
  const acknowledged: Acknowledged[] = [];
  const outcomes: string[] = [];
  const retried: string[] = [];
  const faults: string[] = [];
  const counted = new Set<string>();
  let targets = nodes;
  let stopped = false;

  const request = async (call: Call, random: Random, only?: string): Promise<Answer> => {
    const { method, name, body, ifMatch } = call;
    const pick = (): string => only ?? random.pick(targets);
    const isChange = method !== 'GET';
    const key = isChange ? { 'idempotency-key': randomUUID() } : {};
    const type = method === 'PATCH' ? 'application/merge-patch+json' : 'application/json';
    const init = {
      method,
      headers: { ...headers, ...key, 'content-type': type, ...(ifMatch === undefined ? {} : { 'if-match': ifMatch }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    };
    const deadline = Date.now() + PATIENCE_MS;
    for (let target = pick(); ; target = pick()) {
      const answer = await send(`${target}/v1/documents/${encodeURIComponent(name)}`, init);
      const mayRetry = answer.status === 0 || retryCodes.includes(answer.code ?? '');
      if (!mayRetry || Date.now() > deadline) {
        outcomes.push(`${method} ${answer.status}`);
        const { event_id: eventId } = answer.body;
        if (isChange && answer.status < 300) {
          acknowledged.push({ eventId: String(eventId), node: target, atMs: performance.now() });
        }
        return answer;
      }
      retried.push(answer.code ?? '');
      await sleep(20);
    }
  };

  /** Reports an answer whose status is none of these. */
  const accept = (call: Call, { status, code }: Answer, statuses: number[]): void => {
    if (!statuses.includes(status)) faults.push(`${call.method} ${call.name}: ${status} ${code}`);
  };

  /** Reads the client's own document after each change: it must be that change, unless a restore came between. */
  const changeAndRead = async (client: number, turn: number, random: Random): Promise<void> => {
    const name = `clients/${client}/${random.integer(0, 2)}`;
    const method = random.pick(['PUT', 'PUT', 'PATCH', 'DELETE'] as const);
    const call: Call = { method, name, ...(method === 'DELETE' ? {} : { body: { name, turn } }) };
    const made = await request(call, random);
    accept(call, made, method === 'DELETE' ? [200, 404] : [200, 201]);
    const read = await request({ method: 'GET', name }, random);
    accept({ method: 'GET', name }, read, [200, 404]);
    if (read.status === 200 && read.body.name !== name) faults.push(`${name} has the content of another document`);
    const { epoch, revision } = made.body;
    const [readEpoch, readRevision] = read.tag?.split('.') ?? [];
    if (made.status >= 300 || readEpoch !== epoch || method === 'DELETE') return;
    if (Number(readRevision) < Number(revision)) faults.push(`${name} was read as before its change ${revision}`);
    if (read.body.turn !== turn) faults.push(`${name} was read as of turn ${read.body.turn}, not ${turn}`);
  };

  /** Increments the shared counter if nobody else has changed it. Two increments of one value mean a lost change. */
  const increment = async (random: Random): Promise<void> => {
    const found = await request({ method: 'GET', name: COUNTER }, random);
    accept({ method: 'GET', name: COUNTER }, found, [200]);
    const count = Number(found.body.count);
    const call: Call = { method: 'PUT', name: COUNTER, body: { count: count + 1 }, ifMatch: `"${found.tag}"` };
    const made = await request(call, random);
    accept(call, made, [200, 412]);
    const step = `${made.body.epoch}: ${count}`;
    if (made.status === 200 && counted.size === counted.add(step).size) faults.push(`two increments of ${step}`);
  };

  const run = async (client: number): Promise<void> => {
    const random = seededRandom(`client ${client}`);
    for (let turn = 1; !stopped; turn += 1) {
      if (random.integer(0, 4) === 0) await increment(random);
      else await changeAndRead(client, turn, random);
      await sleep(PAUSE_MS);
    }
  };
  const write = async (node: string, index: number): Promise<void> => {
    for (let turn = 1; !stopped; turn += 1) {
      const call: Call = { method: 'PUT', name: `writers/${index}`, body: { turn } };
      accept(call, await request(call, seededRandom('writer'), node), [200, 201]);
      await sleep(PAUSE_MS);
    }
  };
  const zero: Call = { method: 'PUT', name: COUNTER, body: { count: 0 } };
  accept(zero, await request(zero, seededRandom('counter')), [201]);
  const running = [
    ...Array.from({ length: clients }, (_, client) => run(client)),
    ...(hasWriters ? nodes.map(write) : []),
  ];
  const countOf = (node: string): number => acknowledged.filter((one) => one.node === node).length;
  return {
    sendTo: (next) => {
      targets = next;
    },
    acknowledged,
    outcomes: () => tally(outcomes),
    retried: () => tally(retried),
    faults: () => faults,
    untilEachAcknowledges: async (count) => {
      const wanted = targets.map((node) => ({ node, from: countOf(node) }));
      const isDone = (): boolean => wanted.every(({ node, from }) => countOf(node) >= from + count);
      await expect.poll(isDone, { timeout: PATIENCE_MS, interval: 20 }).toBe(true);
    },
    stop: async () => {
      stopped = true;
      await Promise.all(running);
    },
  };
}

/** Sends one request. If the connection breaks, the status is 0. */
async function send(url: string, init: RequestInit): Promise<Answer> {
  try {
    const answer = await fetch(url, init);
    // Not `text`, which holds the answer to the description of this version.
    const text = Buffer.from(await answer.arrayBuffer()).toString('utf8');
    const body = (text === '' ? {} : JSON.parse(text)) as Record<string, unknown>;
    const tag = answer.headers.get('etag')?.replaceAll('"', '');
    return { status: answer.status, code: answer.ok ? undefined : String(body.code), tag, body };
  } catch (error) {
    const { cause } = error as { cause?: { code?: string } };
    return { status: 0, code: cause?.code ?? String(error), tag: undefined, body: {} };
  }
}
