import { BYTE } from './bytes.ts';
import { plainNumber } from './exact-number.ts';
import { scanText } from './scan-text.ts';

/** Bounds the recursion. LOOM stores and exports fewer levels. */
const MAX_LEVELS = 1000;

/**
 * Returns PostgreSQL's `jsonb::text` of a small JavaScript value, such as a header or a manifest. Omits undefined
 * members, as `JSON.stringify` does. Throws a TypeError for a value without JSON text, and `invalid_string` for a NUL
 * or a lone surrogate.
 */
export function canonicalText(value: unknown): string {
  const text = JSON.stringify(value, refuseNonFinite);
  if (text === undefined) throw new TypeError('undefined, functions and symbols have no JSON text');
  return canonicalize(text);
}

/**
 * Returns PostgreSQL's `jsonb::text` of a JSON text: names in order of byte length, then bytes; the last of equal names
 * wins; separators `, ` and `: `; plain decimals. Throws the scanner's errors except `duplicate_member`.
 */
export function canonicalize(text: string | Uint8Array): string {
  let canonical = '';
  scanText(text, {
    kind: 'capture',
    maxBytes: Number.POSITIVE_INFINITY,
    maxDepth: MAX_LEVELS,
    duplicates: 'keep',
    onValue: (value) => {
      canonical = rewrite(value.text.toString('utf8'));
    },
  });
  return canonical;
}

/** Returns PostgreSQL's `(value - omit)::text` of a captured object (`CapturedValue.text`). */
export function canonicalWithout(captured: Buffer, omit: string): string {
  return rewrite(captured.toString('utf8'), JSON.stringify(omit));
}

/** Returns PostgreSQL's `jsonb::text` of a captured value (`CapturedValue.text`). */
export function canonicalOfCaptured(captured: Buffer): string {
  return rewrite(captured.toString('utf8'));
}

/** Orders and spaces the text of a captured value. The text is valid, and its strings are already canonical. */
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
      skipSpace();
      const name = string();
      index += 1;
      skipSpace();
      members.set(name, value());
    }
    index += text[index] === '}' ? 1 : 2;
    level -= 1;
    if (level === 0 && omit !== undefined) members.delete(omit);
    return `{${orderNames([...members.keys()])
      .map((name) => `${name}: ${members.get(name)}`)
      .join(', ')}}`;
  }

  /** Skips the space after a separator, which a captured value has if it kept its canonical form. */
  function skipSpace(): void {
    if (text[index] === ' ') index += 1;
  }

  function array(): string {
    const elements: string[] = [];
    while (text[index] !== ']' && text[index + 1] !== ']') {
      index += 1;
      skipSpace();
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

  /** Reads a scalar. A number is in normal form, so it is plain unless it has an exponent. */
  function scalar(): string {
    const start = index;
    while (index < text.length && !',]}'.includes(text[index] as string)) index += 1;
    const token = text.slice(start, index);
    return token === 'true' || token === 'false' || !token.includes('e') ? token : plainNumber(token);
  }

  return value();
}

/** Orders canonical names in quotes as PostgreSQL does: decoded, by length in bytes, then byte by byte. */
function orderNames(names: string[]): string[] {
  if (names.every((name, index) => isPlain(name) && (index === 0 || comesAfter(name, names[index - 1] as string)))) {
    return names;
  }
  return names
    .map((name) => ({ name, bytes: Buffer.from(String(JSON.parse(name))) }))
    .sort((one, other) => one.bytes.length - other.bytes.length || Buffer.compare(one.bytes, other.bytes))
    .map(({ name }) => name);
}

/** Compares two plain names. Most objects need no sort, because PostgreSQL writes names in order. */
function comesAfter(name: string, before: string): boolean {
  return name.length > before.length || (name.length === before.length && name > before);
}

/** Returns whether the name is ASCII without escapes. */
function isPlain(name: string): boolean {
  for (let index = 0; index < name.length; index += 1) {
    const code = name.charCodeAt(index);
    if (code > 0x7f || code === BYTE.backslash) return false;
  }
  return true;
}

/** Refuses numbers that `JSON.stringify` would turn into null, because the digest would cover a different value. */
function refuseNonFinite(_name: string, value: unknown): unknown {
  if (typeof value === 'number' && !Number.isFinite(value)) throw new TypeError('NaN and infinity have no JSON text');
  return value;
}
