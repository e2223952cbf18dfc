import type { Random } from '../values/random.ts';
import type { JsonTree } from './json-tree.ts';

/** A container and the index of one of its members or elements. */
interface Place {
  holder: Exclude<JsonTree, { kind: 'scalar' }>;
  index: number;
  path: string;
}

/** Changes the tree at one place and returns what it did, or undefined if this mutation is impossible there. */
type Mutation = (place: Place, random: Random) => string | undefined;

const mutations: Record<string, Mutation> = {
  'another value': (place, random) => {
    const node = valueAt(place);
    if (node.kind !== 'scalar') return undefined;
    return put(place, scalar(otherScalar(JSON.parse(node.text), random)));
  },
  'another type': (place, random) => {
    const node = valueAt(place);
    const text = node.kind === 'scalar' ? node.text : node.kind;
    const candidates: JsonTree[] = [
      scalar(null),
      scalar(true),
      scalar(0),
      scalar(text),
      { kind: 'array', elements: [node] },
      { kind: 'object', members: [{ name: 'value', value: node }] },
      { kind: 'array', elements: [] },
      { kind: 'object', members: [] },
    ];
    return put(place, random.pick(candidates.filter((one) => typeOf(one) !== typeOf(node))));
  },
  removal: ({ holder, index }) => {
    listOf(holder).splice(index, 1);
    return '';
  },
  'another name': ({ holder, index }, random) => {
    if (holder.kind !== 'object') return undefined;
    const member = holder.members[index];
    const name = random.pick([
      `${member?.name}x`,
      `x${member?.name}`,
      member?.name.toUpperCase(),
      member?.name.slice(1),
    ]);
    if (member === undefined || name === undefined || name === member.name) return undefined;
    // Two members of the same name are the mutation "the same twice".
    if (holder.members.some((one) => one.name === name)) return undefined;
    member.name = name;
    return JSON.stringify(name);
  },
  addition: ({ holder }, random) => {
    const value = random.pick<JsonTree>([scalar(1), scalar(''), scalar(null), { kind: 'object', members: [] }]);
    if (holder.kind === 'array') holder.elements.splice(random.integer(0, holder.elements.length), 0, value);
    else holder.members.push({ name: random.pick(['added', '__proto__', 'hash2', '\u{1f9f5}']), value });
    return describe(value);
  },
  'the same twice': ({ holder, index }) => {
    if (holder.kind === 'array') holder.elements.splice(index, 0, ...holder.elements.slice(index, index + 1));
    else holder.members.splice(index, 0, ...holder.members.slice(index, index + 1));
    return '';
  },
  swap: (place, random) => {
    const { holder, index } = place;
    const partner = { ...place, index: random.integer(0, listOf(holder).length - 1) };
    const [one, other] = [valueAt(place), valueAt(partner)];
    // Swapping equal values changes nothing.
    if (partner.index === index || describe(one) === describe(other)) return undefined;
    put(place, other);
    put(partner, one);
    return `with ${partner.index}`;
  },
};

export const mutationKinds = Object.keys(mutations);

/**
 * Changes the tree at one place, and returns what it did and where. The tree is a different value afterwards, never
 * another spelling of the same value.
 */
export function mutate(root: JsonTree, kind: string, random: Random): string {
  const mutation = mutations[kind];
  if (mutation === undefined) throw new Error(`Unknown mutation "${kind}".`);
  const places = placesIn(root, '');
  for (;;) {
    // Draw the depth first, so that the few members of the header are as likely as the many values in the entries.
    const level = random.integer(0, 5);
    const place = random.pick(places.filter(({ path }) => path.split('/').length > level));
    const what = mutation(place, random);
    if (what !== undefined) return `${kind} ${what} at ${place.path}`;
  }
}

function placesIn(holder: JsonTree, path: string): Place[] {
  if (holder.kind === 'scalar') return [];
  return listOf(holder).flatMap((one, index) => {
    const here = `${path}/${'name' in one ? one.name : index}`;
    return [{ holder, index, path: here }, ...placesIn('name' in one ? one.value : one, here)];
  });
}

function listOf(holder: Place['holder']): ({ name: string; value: JsonTree } | JsonTree)[] {
  return holder.kind === 'array' ? holder.elements : holder.members;
}

function valueAt({ holder, index }: Place): JsonTree {
  const value = holder.kind === 'array' ? holder.elements[index] : holder.members[index]?.value;
  if (value === undefined) throw new Error(`there is nothing at ${index}`);
  return value;
}

function put({ holder, index }: Place, value: JsonTree): string {
  if (holder.kind === 'array') holder.elements[index] = value;
  else holder.members.splice(index, 1, { name: holder.members[index]?.name ?? '', value });
  return describe(value);
}

function scalar(value: unknown): JsonTree {
  return { kind: 'scalar', text: JSON.stringify(value) };
}

function otherScalar(value: unknown, random: Random): unknown {
  if (typeof value === 'boolean') return !value;
  if (typeof value === 'number') {
    const others = [value + 1, value - 1, -value, value * 2, value / 2, 0, 1, 1e15, 0.1, random.integer(0, 1e6)];
    // `Object.is` would distinguish -0 from 0.
    return random.pick(others.filter((one) => one !== value));
  }
  if (typeof value !== 'string') return random.pick<unknown>([false, 0, '']);
  const at = random.integer(0, Math.max(value.length - 1, 0));
  const letter = random.pick([...'0123456789abcdef~Z ü']);
  const others = [
    value.slice(0, at) + letter + value.slice(at + 1),
    value + letter,
    value.slice(1),
    letter + value,
    '',
  ];
  return random.pick(others.filter((one) => one !== value));
}

function typeOf(node: JsonTree): string {
  return node.kind === 'scalar' ? (node.text === 'null' ? 'null' : typeof JSON.parse(node.text)) : node.kind;
}

function describe(node: JsonTree): string {
  return JSON.stringify(node);
}
