/** A JSON value with its members in a given order. A name may occur twice. A scalar is kept as its text. */
export type JsonTree =
  | { kind: 'object'; members: { name: string; value: JsonTree }[] }
  | { kind: 'array'; elements: JsonTree[] }
  | { kind: 'scalar'; text: string };

/** Converts a value of `JSON.parse`, with its members in the same order. */
export function treeOf(value: unknown): JsonTree {
  if (Array.isArray(value)) return { kind: 'array', elements: value.map(treeOf) };
  if (typeof value !== 'object' || value === null) return { kind: 'scalar', text: JSON.stringify(value) };
  return {
    kind: 'object',
    members: Object.entries(value).map(([name, member]) => ({ name, value: treeOf(member) })),
  };
}

/** How a program writes JSON. */
export interface JsonStyle {
  /** The separators between elements and between a name and its value. */
  separators?: [string, string];
  /** Indentation of one level. Without it, the text has one line. */
  indent?: string;
  newline?: string;
  /** Sorts the members of an object. Without it, they keep their order. */
  order?: (one: string, other: string) => number;
  reversed?: boolean;
  string?: (value: string) => string;
  number?: (value: number) => string;
}

export function printTree(tree: JsonTree, style: JsonStyle = {}, level = 0): string {
  const { separators: [comma, colon] = [',', ':'], string = JSON.stringify } = style;
  if (tree.kind === 'scalar') return printScalar(tree.text, style);
  const inner =
    tree.kind === 'array'
      ? tree.elements.map((element) => printTree(element, style, level + 1))
      : inOrder(tree.members, style).map(
          ({ name, value }) => `${string(name)}${colon}${printTree(value, style, level + 1)}`,
        );
  const [open, close] = tree.kind === 'array' ? ['[', ']'] : ['{', '}'];
  if (style.indent === undefined || inner.length === 0) return `${open}${inner.join(comma)}${close}`;
  const line = (depth: number): string => `${style.newline ?? '\n'}${(style.indent ?? '').repeat(depth)}`;
  return `${open}${line(level + 1)}${inner.join(`${comma}${line(level + 1)}`)}${line(level)}${close}`;
}

function printScalar(text: string, { string, number }: JsonStyle): string {
  const value: unknown = JSON.parse(text);
  if (typeof value === 'string' && string !== undefined) return string(value);
  if (typeof value === 'number' && number !== undefined) return number(value);
  return text;
}

function inOrder<Member extends { name: string }>(members: Member[], { order, reversed }: JsonStyle): Member[] {
  if (order !== undefined) return members.toSorted((one, other) => order(one.name, other.name));
  return reversed === true ? members.toReversed() : members;
}
