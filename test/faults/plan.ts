import { createRandom, type Random } from '../setup/values/random.ts';

/**
 * Where the database is: one server, one behind PgBouncer, one on a small disk, a primary with a synchronous standby,
 * or a primary with an asynchronous one, whose promotion loses commits.
 */
export type Topology = 'single' | 'pooled' | 'small-disk' | 'synchronous' | 'asynchronous';

export type FaultKind =
  | 'server-freeze'
  | 'server-kill'
  | 'server-restart'
  | 'server-crash'
  | 'server-read-only'
  | 'server-recovery'
  | 'disk-full'
  | 'line-blackhole'
  | 'line-delay'
  | 'line-drop'
  | 'line-lost-answers'
  | 'pooler-restart'
  | 'pooler-pause'
  | 'standby-stop'
  | 'promote-synchronous'
  | 'promote-lossy'
  | 'node-freeze'
  | 'node-kill'
  | 'node-restart'
  | 'node-clock'
  | 'haproxy-reload';

export interface PlannedFault {
  kind: FaultKind;
  /** Whether it begins when the one before has ended, without a recovery. Otherwise they overlap. */
  follows: boolean;
  /** When it begins after the step begins, or after the fault that it follows; and how long it lasts. */
  afterMs: number;
  lastsMs: number;
  /** Chooses the node, and the way of a fault that has several. */
  choice: number;
}

/** One round. The next step begins when all nodes have recovered. */
export interface Plan {
  seed: number;
  topology: Topology;
  nodes: number;
  /** Whether half of the clients reach the nodes through HAProxy. */
  balanced: boolean;
  steps: PlannedFault[][];
}

/** The tools that are there. A plan has no fault that needs a missing one. */
export interface Tools {
  pgbouncer: boolean;
  haproxy: boolean;
  faketime: boolean;
  smallDisk: boolean;
}

const anywhere: FaultKind[] = [
  'server-freeze',
  'server-crash',
  'line-blackhole',
  'line-delay',
  'line-drop',
  'line-lost-answers',
];
const alone: FaultKind[] = ['server-kill', 'server-restart', 'server-read-only', 'server-recovery'];
const ofNodes: FaultKind[] = ['node-freeze', 'node-kill', 'node-restart', 'node-clock'];

/** The faults of the database in each topology. A kind that is listed twice happens more often. */
const ofDatabase: Record<Topology, FaultKind[]> = {
  single: [...anywhere, ...alone],
  pooled: ['pooler-restart', 'pooler-pause', 'pooler-restart', 'pooler-pause', ...anywhere, ...alone],
  'small-disk': ['disk-full'],
  synchronous: ['standby-stop', ...anywhere, 'server-restart', 'server-read-only'],
  asynchronous: [...anywhere, 'server-kill', 'server-read-only'],
};

/** Faults that end the primary for good. */
const last: Partial<Record<Topology, FaultKind>> = {
  synchronous: 'promote-synchronous',
  asynchronous: 'promote-lossy',
};

/** Draws the plan of a round. The same seed and tools give the same plan. A short one has one step of 2 s. */
export function drawPlan(seed: number, tools: Tools, isShort: boolean): Plan {
  const random = createRandom(seed);
  const topology = random.pick(topologies(tools, isShort));
  const nodes = isShort ? random.integer(1, 2) : random.integer(1, 3);
  const balanced = tools.haproxy && nodes === 2 && random.fraction() < 0.7;
  const kindsOfNodes = ofNodes.filter((kind) => kind !== 'node-clock' || tools.faketime);
  const others: FaultKind[] = balanced ? [...kindsOfNodes, 'haproxy-reload', 'haproxy-reload'] : kindsOfNodes;
  const count = isShort ? 1 : random.integer(1, 2);
  const steps = Array.from({ length: count }, (_, index) => {
    const final = index === count - 1 ? last[topology] : undefined;
    const ofServer = final ?? random.pick(ofDatabase[topology]);
    const first = final === undefined && random.fraction() < 0.3 ? random.pick(others) : ofServer;
    const isOfServer = first === ofServer;
    const second = random.fraction() < 0.4 ? random.pick(isOfServer ? others : ofDatabase[topology]) : undefined;
    const kinds = [first, ...(second === undefined ? [] : [second])];
    const faults = kinds.map((kind) => drawFault(kind, random, isShort));
    // Two faults of the database never overlap, but the second can begin before anything has recovered from the first.
    const hasPrelude = !isShort && faults.length === 1 && isOfServer && random.fraction() < 0.35;
    if (!hasPrelude) return faults;
    const prelude = drawFault(random.pick(ofDatabase[topology]), random, isShort);
    return [prelude, ...faults.map((fault) => ({ ...fault, follows: true }))];
  });
  return { seed, topology, nodes, balanced, steps };
}

function topologies(tools: Tools, isShort: boolean): Topology[] {
  const possible: Topology[] = ['single', 'single'];
  if (tools.pgbouncer) possible.push('pooled', 'pooled');
  if (tools.smallDisk) possible.push('small-disk');
  // A second server costs a short run too much.
  if (!isShort) possible.push('synchronous', 'synchronous', 'asynchronous', 'asynchronous');
  return possible;
}

function drawFault(kind: FaultKind, random: Random, isShort: boolean): PlannedFault {
  // A verdict of /ready that is wrong for 10 s shows only in a fault that lasts longer.
  const isLong = !isShort && random.fraction() < 0.05;
  return {
    kind,
    follows: false,
    afterMs: random.integer(0, 600),
    lastsMs: isShort
      ? random.integer(500, 1_500)
      : isLong
        ? random.integer(12_000, 14_000)
        : random.integer(300, 4_000),
    choice: random.integer(0, 1_000_000),
  };
}

export function describePlan({ seed, topology, nodes, balanced, steps }: Plan): string {
  const faults = steps.map((step) => step.map(describeFault).join(' '));
  return `seed ${seed}: ${topology}, ${nodes} node(s)${balanced ? ' behind HAProxy' : ''}: ${faults.join('; ')}`;
}

function describeFault({ kind, lastsMs, follows }: PlannedFault, index: number): string {
  const link = index === 0 ? '' : follows ? 'then ' : 'with ';
  return `${link}${kind} ${lastsMs} ms`;
}
