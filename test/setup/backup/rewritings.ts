import { execFileSync, spawnSync } from 'node:child_process';
import { plainNumber } from '../../../src/json/exact-number.ts';
import { type JsonStyle, printTree, treeOf } from './json-tree.ts';

/** Rewrites a JSON text as a program might: as another text of the same value. */
export type Rewriting = (text: string) => string;

const as =
  (style: JsonStyle): Rewriting =>
  (text) =>
    printTree(treeOf(JSON.parse(text)), style);

const spaced: [string, string] = [', ', ': '];
const bytewise = (one: string, other: string): number => Buffer.compare(Buffer.from(one), Buffer.from(other));
const everyUnit = /[\s\S]/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: all characters except printable ASCII
const notPlain = /[\u0000-\u001f\u007f-\uffff]/g;

/** Imitates tools that rewrite backups in practice, and some worse ones, without running them. */
export const rewritings: Record<string, Rewriting> = {
  'as it is': (text) => text,
  'JSON.parse and JSON.stringify': (text) => JSON.stringify(JSON.parse(text)),
  'jq .': as({ indent: '  ', separators: [',', ': '], string: jqString }),
  'jq -S -c': as({ order: bytewise, string: jqString }),
  "Python's json": as({ separators: spaced, string: asciiString, number: pythonNumber }),
  "Python's json, sorted and indented": as({
    indent: '    ',
    separators: [',', ': '],
    order: bytewise,
    number: pythonNumber,
  }),
  'members in reverse': as({ reversed: true }),
  'CRLF, and tabs': as({ indent: '\t', newline: '\r\n', separators: [' ,', '\t:\t'] }),
  'CRLF for every LF': (text) => text.replaceAll('\n', '\r\n'),
  'every letter escaped': as({ string: (value) => quote(value.replace(everyUnit, escapeUpper)) }),
  'slashes escaped': as({ string: (value) => JSON.stringify(value).replaceAll('/', '\\/') }),
  'every number with an exponent': as({ number: (value) => value.toExponential().replace('e', 'E') }),
  'every number with a point': as({ number: (value) => pointNumber(plainNumber(String(value))) }),
};

interface Tool {
  name: string;
  command: string;
  args: string[];
}

const tools: Tool[] = [
  { name: 'the real jq .', command: 'jq', args: ['.'] },
  { name: 'the real jq -S -c', command: 'jq', args: ['-S', '-c', '.'] },
  { name: 'the real jq -a', command: 'jq', args: ['-a', '.'] },
  {
    name: 'the real Python',
    command: 'python3',
    args: ['-c', 'import json, sys; json.dump(json.load(sys.stdin.buffer), sys.stdout)'],
  },
];

/** Returns the real tools that this machine has. `rewritings` imitates all of them. */
export function toolRewritings(): Record<string, Rewriting> {
  const here = tools.filter(({ command }) => spawnSync(command, ['--version']).status === 0);
  return Object.fromEntries(
    here.map(({ name, command, args }) => [
      name,
      (text: string) => execFileSync(command, args, { input: text, maxBuffer: 64 * 1024 * 1024, encoding: 'utf8' }),
    ]),
  );
}

/** Escapes U+007F, as jq does. */
function jqString(value: string): string {
  return JSON.stringify(value).replaceAll('\u007f', '\\u007f');
}

function asciiString(value: string): string {
  return JSON.stringify(value).replace(notPlain, (unit) => escapeUpper(unit).toLowerCase());
}

function escapeUpper(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).toUpperCase().padStart(4, '0')}`;
}

function quote(inner: string): string {
  return `"${inner}"`;
}

/** Writes a number as Python does: integers in full, and an exponent of two digits below 0.0001. */
function pythonNumber(value: number): string {
  if (Number.isInteger(value)) return plainNumber(String(value));
  if (Math.abs(value) >= 1e-4) return String(value);
  return value.toExponential().replace(/e-(\d)$/, 'e-0$1');
}

function pointNumber(plain: string): string {
  return plain.includes('.') ? `${plain}00` : `${plain}.0`;
}
