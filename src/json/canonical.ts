import { BYTE } from './bytes.ts';
import { plainNumber } from './exact-number.ts';
import { scanJson } from './scan.ts';

/** Far deeper than anything LOOM stores or exports, and well within what recursion can bear. */
const MOST_LEVELS = 1000;

/**
 * PostgreSQL's `jsonb::text` of a small JavaScript value (headers, manifests). Members that are `undefined` are left out, as
 * `JSON.stringify` does. Throws a TypeError for what JSON cannot hold, and a LoomError for a NUL or a lone surrogate.
 */
export function canonicalText(value: unknown): string {
  const text = JSON.stringify(value, refuseNonFinite);
  if (text === undefined) throw new TypeError('there is no JSON text of undefined, a function or a symbol');
  return canonicalize(text);
}

/**
 * PostgreSQL's `jsonb::text` of any JSON text: names by byte length, then bytes; of equal names the last wins; separators
 * `, ` and `: `; plain decimals. The text must be one that LOOM could store, duplicates apart: errors as `createJsonScanner`.
 */
export function canonicalize(text: string | Uint8Array): string {
  let canonical = '';
  scanJson(text, {
    kind: 'capture',
    maxBytes: Number.POSITIVE_INFINITY,
    maxDepth: MOST_LEVELS,
    duplicates: 'keep',
    onValue: (value) => {
      canonical = rewrite(value.text.toString('utf8'));
    },
  });
  return canonical;
}

/**
 * PostgreSQL's `jsonb::text` of an object that the scanner has captured (`CapturedValue.text`), without its member `omit`: what
 * `(value - 'omit')::text` is in SQL.
 */
export function canonicalWithout(captured: Buffer, omit: string): string {
  return rewrite(captured.toString('utf8'), JSON.stringify(omit));
}

/** PostgreSQL's `jsonb::text` of a value that the scanner has captured (`CapturedValue.text`). */
export function canonicalOfCaptured(captured: Buffer): string {
  return rewrite(captured.toString('utf8'));
}

/** Orders and spaces a text that the scanner has normalised: its strings are canonical already, and nothing in it is wrong. */
function rewrite(text: string, omit?: string): string {
  let index = 0;
  let level = 0;

  function value(): string {
    switch (text[index]) {
      case '{':
        return object();
      case '[':
        return array();
      case '"':
        return string();
      default:
        return scalar();
    }
  }

  function object(): string {
    const members = new Map<string, string>();
    level += 1;
    while (text[index] !== '}' && text[index + 1] !== '}') {
      index += 1;
      const name = string();
      index += 1;
      members.set(name, value());
    }
    index += text[index] === '}' ? 1 : 2;
    level -= 1;
    if (level === 0 && omit !== undefined) members.delete(omit);
    return `{${orderNames([...members.keys()])
      .map((name) => `${name}: ${members.get(name)}`)
      .join(', ')}}`;
  }

  function array(): string {
    const elements: string[] = [];
    while (text[index] !== ']' && text[index + 1] !== ']') {
      index += 1;
      elements.push(value());
    }
    index += text[index] === ']' ? 1 : 2;
    return `[${elements.join(', ')}]`;
  }

  function string(): string {
    const start = index;
    index += 1;
    while (text[index] !== '"') index += text[index] === '\\' ? 2 : 1;
    index += 1;
    return text.slice(start, index);
  }

  /** A number is in its normal form already, and plain unless it has an exponent. */
  function scalar(): string {
    const start = index;
    while (index < text.length && !',]}'.includes(text[index] as string)) index += 1;
    const token = text.slice(start, index);
    return token === 'true' || token === 'false' || !token.includes('e') ? token : plainNumber(token);
  }

  return value();
}

/** PostgreSQL compares decoded names: by their length in bytes, then byte by byte. `names` are canonical, in quotes. */
function orderNames(names: string[]): string[] {
  if (names.every((name, index) => isPlain(name) && (index === 0 || comesAfter(name, names[index - 1] as string)))) {
    return names;
  }
  return names
    .map((name) => ({ name, bytes: Buffer.from(String(JSON.parse(name))) }))
    .sort((one, other) => one.bytes.length - other.bytes.length || Buffer.compare(one.bytes, other.bytes))
    .map(({ name }) => name);
}

/** Of plain names a character is a byte. What PostgreSQL has written is in order, so nearly no object needs to be sorted. */
function comesAfter(name: string, before: string): boolean {
  return name.length > before.length || (name.length === before.length && name > before);
}

/** Without escapes, and of ASCII only. */
function isPlain(name: string): boolean {
  for (let index = 0; index < name.length; index += 1) {
    const code = name.charCodeAt(index);
    if (code > 0x7f || code === BYTE.backslash) return false;
  }
  return true;
}

/** `JSON.stringify` would write `null` for it: a digest over another value than was meant. */
function refuseNonFinite(_name: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value))
    throw new TypeError('there is no JSON text of NaN or infinity');
  return value;
}
