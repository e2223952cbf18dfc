import { deflateSync, gzipSync } from 'node:zlib';
import { type JsonTree, treeOf } from '../backup/json-tree.ts';
import type { Random } from '../values/random.ts';
import type { Known } from './known.ts';
import { chance, oddNumbers, oddTexts, randomBytes, randomWord } from './odd-values.ts';
import { resolve, type Schema } from './operations.ts';

/** Returns a value that the schema accepts. Uses what is known where the schema has such a member. */
export function valueFor(schema: Schema, random: Random, known: Known): unknown {
  if (schema.$ref?.endsWith('/RestorableBackup') && known.backups.length > 0 && chance(random, 0.85)) {
    return JSON.parse(random.pick(known.backups));
  }
  const one = resolve(schema);
  if (one.const !== undefined) return one.const;
  if (one.enum !== undefined) return random.pick(one.enum);
  if (one.anyOf !== undefined) return valueFor(random.pick(one.anyOf), random, known);
  switch (one.type) {
    case 'boolean':
      return chance(random, 0.5);
    case 'integer':
    case 'number':
      return random.pick([...known.numbers, one.minimum ?? 0, (one.minimum ?? 0) + random.integer(0, 5)]);
    case 'string':
      return textOf(one, random, known);
    case 'null':
      return null;
    case 'array':
      return Array.from({ length: random.integer(0, 2) }, () => valueFor(one.items ?? {}, random, known));
    case 'object':
      return objectOf(one, random, known);
    default:
      return randomJson(random, 3);
  }
}

function textOf({ format, pattern, maxLength }: Schema, random: Random, known: Known): string {
  if (format === 'uuid') return random.pick(known.eventIds);
  if (format === 'date-time') return '2026-11-25T22:57:28.451652Z';
  if (pattern?.includes('{64}')) return randomWord(random, 64).replaceAll(/[g-z]/g, 'f');
  return random
    .pick([...known.scratchKeys, ...known.storedNames.slice(-1), 'default', randomWord(random)])
    .slice(0, maxLength);
}

function objectOf(schema: Schema, random: Random, known: Known): object {
  const { properties = {}, required = [], additionalProperties } = schema;
  const members = Object.entries(properties)
    .filter(([name]) => required.includes(name) || chance(random, 0.2))
    .map(([name, member]): [string, unknown] => [name, valueFor(member, random, known)]);
  const names = typeof additionalProperties === 'object' ? random.integer(0, 3) : 0;
  const others = Array.from({ length: names }, (): [string, unknown] => [
    random.pick([...known.names, randomWord(random)]),
    chance(random, 0.2) ? null : randomJson(random, 2),
  ]);
  return Object.fromEntries([...members, ...others]);
}

/** Returns a JSON value of at most this depth. */
export function randomJson(random: Random, depth: number): unknown {
  const scalars: (() => unknown)[] = [
    () => null,
    () => chance(random, 0.5),
    () => random.integer(-1_000, 1_000),
    () => random.fraction(),
    () => randomWord(random),
    () => random.pick(oddTexts.filter((text) => !/[\ud800-\udfff\0]/.test(text))),
  ];
  if (depth === 0 || chance(random, 0.4)) return random.pick(scalars)();
  const length = random.integer(0, 4);
  if (chance(random, 0.4)) return Array.from({ length }, () => randomJson(random, depth - 1));
  return Object.fromEntries(Array.from({ length }, () => [randomWord(random), randomJson(random, depth - 1)]));
}

interface Slot {
  list: (JsonTree | { name: string; value: JsonTree })[];
  index: number;
  level: number;
}

/** Changes a JSON value at one place, in whatever way: afterwards it may be another value, or no JSON. */
export function spoilTree(root: JsonTree, random: Random): JsonTree {
  const holder: JsonTree = { kind: 'array', elements: [root] };
  const slots = slotsIn(holder, 0);
  // The few members near the root are as likely as the many values in the entries of a backup.
  const level = random.integer(0, 4);
  const deep = slots.filter((one) => one.level >= level);
  spoilSlot(random.pick(deep.length === 0 ? slots : deep), random);
  const [first] = holder.elements;
  return holder.elements.length === 1 && first !== undefined ? first : holder;
}

function slotsIn(holder: JsonTree, level: number): Slot[] {
  if (holder.kind === 'scalar') return [];
  const list = holder.kind === 'array' ? holder.elements : holder.members;
  return list.flatMap((one, index) => [{ list, index, level }, ...slotsIn('name' in one ? one.value : one, level + 1)]);
}

function spoilSlot({ list, index }: Slot, random: Random): void {
  const old = list[index];
  if (old === undefined) return;
  const put = (value: JsonTree): void => void list.splice(index, 1, 'name' in old ? { name: old.name, value } : value);
  const value = 'name' in old ? old.value : old;
  const actions: (() => void)[] = [
    () => put(oddTree(random, value)),
    () => put(oddTree(random, value)),
    () => put(oddTree(random, value)),
    () => void list.splice(index, 1),
    () => void list.splice(index, 0, old),
    () => {
      if ('name' in old) list.splice(index, 1, { name: oddName(random, old.name), value });
    },
    () => {
      const other = oddTree(random, value);
      list.splice(index, 0, 'name' in old ? { name: oddName(random, old.name), value: other } : other);
    },
    () => {
      const [moved] = list.splice(index, 1);
      if (moved !== undefined) list.splice(random.integer(0, list.length), 0, moved);
    },
  ];
  random.pick(actions)();
}

function oddName(random: Random, name: string): string {
  return random.pick([
    random.pick(oddTexts),
    `${name}x`,
    name.toUpperCase(),
    name.slice(1),
    'n'.repeat(5_000),
    'n'.repeat(65_000),
  ]);
}

function oddTree(random: Random, old: JsonTree): JsonTree {
  const scalar = (text: string): JsonTree => ({ kind: 'scalar', text });
  const choices: (() => JsonTree)[] = [
    () => scalar(random.pick(oddNumbers)),
    () => scalar(JSON.stringify(random.pick(oddTexts))),
    () => scalar(random.pick(['null', 'true', 'false'])),
    () => near(old, random),
    () => near(old, random),
    () => ({ kind: 'array', elements: [old] }),
    () => ({ kind: 'object', members: [{ name: 'value', value: old }] }),
    () => ({ kind: 'object', members: [] }),
    () => nested(random, random.pick([2, 62, 63, 64, 65, 126, 127, 128, 129, 130, 20_000])),
    () => treeOf(randomJson(random, 3)),
  ];
  return random.pick(choices)();
}

/** Returns a scalar of the same type that is a little different. */
function near(old: JsonTree, random: Random): JsonTree {
  if (old.kind !== 'scalar') return old;
  if (/^-?\d+$/.test(old.text)) {
    return { kind: 'scalar', text: String(BigInt(old.text) + BigInt(random.pick([-1, 1, 1_000, -1_000]))) };
  }
  if (old.text === 'true' || old.text === 'false') return { kind: 'scalar', text: String(old.text !== 'true') };
  if (!old.text.startsWith('"')) return old;
  const text = String(JSON.parse(old.text));
  const at = random.integer(0, text.length);
  const more = random.pick(['0', 'a', 'Z', ' ', '\u0000', 'é', '']);
  return { kind: 'scalar', text: JSON.stringify(text.slice(0, at) + more + text.slice(at + 1)) };
}

/** Nests deeply, as one text. A tree of such depth would need a stack of its own. */
function nested(random: Random, depth: number): JsonTree {
  const [open, close] = random.pick<[string, string]>([
    ['[', ']'],
    ['{"a":', '}'],
  ]);
  return { kind: 'scalar', text: `${open.repeat(depth)}1${close.repeat(depth)}` };
}

/** Prints the tree, now and then with whitespace and escapes. The texts of scalars stay as they are. */
export function printFreely(tree: JsonTree, random: Random): string {
  const isOdd = chance(random, 0.2);
  const space = (): string => (isOdd ? random.pick(['', '', ' ', '\n', '\t', '\r\n']) : '');
  const escaped = (letter: string): string =>
    chance(random, 0.3) ? `\\u00${letter.charCodeAt(0).toString(16)}` : letter;
  const nameText = (name: string): string =>
    isOdd && /^[a-z_]+$/.test(name) ? `"${[...name].map(escaped).join('')}"` : JSON.stringify(name);
  const print = (one: JsonTree): string => {
    if (one.kind === 'scalar') return `${space()}${one.text}${space()}`;
    if (one.kind === 'array') return `[${one.elements.map(print).join(',')}${space()}]`;
    const members = one.members.map(({ name, value }) => `${space()}${nameText(name)}${space()}:${print(value)}`);
    return `{${members.join(',')}${space()}}`;
  };
  return print(tree);
}

/** Changes bytes of a text, so that it may be neither JSON nor UTF-8. */
export function spoilBytes(bytes: Buffer, random: Random): Buffer {
  const at = random.integer(0, bytes.length);
  const [head, tail] = [bytes.subarray(0, at), bytes.subarray(at)];
  const choices: (() => Buffer)[] = [
    () => head,
    () => Buffer.concat([head, randomBytes(random, random.integer(1, 4)), tail]),
    () => Buffer.concat([head, Buffer.from([(tail[0] ?? 0) ^ (1 << random.integer(0, 7))]), tail.subarray(1)]),
    () => Buffer.concat([head, tail.subarray(1)]),
    () => Buffer.concat([Buffer.from('\ufeff'), bytes]),
    () => Buffer.concat([bytes, Buffer.from(random.pick([' 1', '}', ']', ',', '\0', '\n\n', '//x']))]),
    () => Buffer.concat([bytes, bytes]),
    () => Buffer.alloc(0),
    () => Buffer.from(' \n'),
    () => Buffer.from(bytes.toString('utf8'), 'utf16le'),
    () => Buffer.concat([head, Buffer.from(random.pick(['c080', 'eda080', 'f4908080', 'ff', 'e282']), 'hex'), tail]),
    () => Buffer.from(bytes.toString('utf8').replaceAll('"', "'")),
    () => Buffer.from('['.repeat(random.pick([127, 128, 129, 100_000]))),
  ];
  return random.pick(choices)();
}

/** Returns the bytes in an encoding, with the header that names it, which may be the wrong one. */
export function encodeBody(bytes: Buffer, random: Random): { bytes: Buffer; encoding: string | undefined } {
  const choices: (() => { bytes: Buffer; encoding: string | undefined })[] = [
    () => ({ bytes: gzipSync(bytes), encoding: 'gzip' }),
    () => ({ bytes: gzipSync(bytes), encoding: 'x-gzip' }),
    () => ({ bytes: gzipSync(bytes), encoding: 'GZIP' }),
    () => ({ bytes, encoding: 'identity' }),
    () => ({ bytes, encoding: 'gzip' }),
    () => ({ bytes: gzipSync(bytes), encoding: undefined }),
    () => ({ bytes: gzipSync(bytes).subarray(0, -random.integer(1, 12)), encoding: 'gzip' }),
    () => ({ bytes: Buffer.concat([gzipSync(bytes), gzipSync(Buffer.from(' '))]), encoding: 'gzip' }),
    () => ({ bytes: Buffer.concat([gzipSync(bytes), randomBytes(random, 9)]), encoding: 'gzip' }),
    () => ({ bytes: spoilBytes(gzipSync(bytes), random), encoding: 'gzip' }),
    () => ({ bytes: gzipSync(gzipSync(bytes)), encoding: 'gzip' }),
    () => ({ bytes: gzipSync(gzipSync(bytes)), encoding: 'gzip, gzip' }),
    () => ({ bytes: deflateSync(bytes), encoding: 'deflate' }),
    () => ({ bytes, encoding: random.pick(['br', '', '*', 'gzip;q=1', 'none', 'gzip,', 'zstd']) }),
    () => ({ bytes: gzipSync(Buffer.alloc(random.pick([70_000, 2_000_000]), ' ')), encoding: 'gzip' }),
  ];
  return random.pick(choices)();
}
