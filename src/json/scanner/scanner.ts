import { type ErrorCode, LoomError, type LoomErrorOptions } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { BYTE, showByte, typeOf, WHITESPACE } from '../bytes.ts';
import type { CaptureVisit, JsonType, SkipVisit, Visit } from '../visit.ts';
import { readCanonical } from './canonical-reader.ts';
import { createCaptureStack } from './capture-stack.ts';
import { JsonTruncatedError } from './fault.ts';
import { createLiteralReader } from './literal-reader.ts';
import { createNumberReader } from './number-reader.ts';
import { createStringReader } from './string-reader.ts';
import { TextOutput } from './text-output.ts';
import { createVisitStack } from './visit-stack.ts';
import { createWhitespaceReader } from './whitespace-reader.ts';

// src/json/scanner/ is the incremental scanner. It may import the rest of src/json/, errors and limits. This file reads
// the structure of a text, the readers read its tokens, and two stacks track the open containers. None of these
// objects has a getter: V8 would keep a hidden class, and so the garbage, of each scanner until a full collection.

/** Scans one JSON text in chunks: strict RFC 8259, in UTF-8 without a byte order mark. */
export interface JsonScanner {
  /** Takes the next bytes, split anywhere. Calls the callbacks synchronously. Keeps no reference to the chunk. */
  write(chunk: Uint8Array): void;
  /** Ends the input. Throws `JsonTruncatedError` when a value is still open. */
  end(): void;
  /** Returns the number of bytes taken so far. */
  offset(): number;
  /** Returns the approximate memory in use, in bytes. */
  heldBytes(): number;
}

// Each state names the next part of the text:
//
//   start -> VALUE --- scalar --> IN_STRING, IN_NUMBER, IN_LITERAL --> AFTER_VALUE, or NOTHING if outermost
//              |------ '[' -----> VALUE_OR_END -- ']' ---------------> AFTER_VALUE; other bytes as in VALUE
//              '------ '{' -----> NAME_OR_END --- '}' ---------------> AFTER_VALUE; other bytes as in NAME
//   NAME ------------- '"' -----> IN_STRING --> COLON --- ':' -------> VALUE
//   AFTER_VALUE ------ ',' -----> VALUE in an array, NAME in an object
//   AFTER_VALUE -- ']' or '}' --> AFTER_VALUE of the container around, or NOTHING
const VALUE = 0;
const VALUE_OR_END = 1;
const NAME = 2;
const NAME_OR_END = 3;
const COLON = 4;
const AFTER_VALUE = 5;
const IN_STRING = 6;
const IN_NUMBER = 7;
const IN_LITERAL = 8;
const NOTHING = 9;

const EMPTY: Buffer = Buffer.alloc(0);

/**
 * Creates a scanner that treats the text according to `root`. The chunks matter only for `CapturedValue.canonicalFrom`.
 *
 * Throws LoomErrors with `offset` and `pointer`: `invalid_json`, `invalid_utf8`, `invalid_string`, `invalid_number`,
 * `duplicate_member`, `nested_too_deeply`, `document_too_large`, and `body_too_large` for too much whitespace. Passes
 * on the errors of callbacks. After an error, each call throws the same error again.
 */
// biome-ignore lint/complexity/noExcessiveLinesPerFunction: its parts share state; passing it costs time at every token
export function createJsonScanner(root: Visit): JsonScanner {
  const output = new TextOutput();
  const strings = createStringReader(output, fail);
  const numbers = createNumberReader(output, fail);
  const literals = createLiteralReader(fail);
  const whitespace = createWhitespaceReader(fail);
  const captured = createCaptureStack(output);
  const visits = createVisitStack(root);
  let state = VALUE;
  let chunk = EMPTY;
  /** Offset of the chunk's first byte in the input. */
  let base = 0;
  let failure: { error: unknown } | undefined;
  /** The visit of the value being captured or skipped; undefined outside such a value. */
  let current: CaptureVisit | SkipVisit | undefined;
  let currentType: JsonType = 'null';
  /** Whether the current string is a member name. With `current`, it belongs to a captured object. */
  let stringIsName = false;
  /** Offset of the captured value, or of a visited member's name. */
  let captureOffset = 0;
  let nameStart = 0;
  let nameOffset = 0;

  function scanChunk(): void {
    const end = chunk.length;
    let position = 0;
    while (position < end) {
      if (state === IN_STRING) {
        position = readString(position);
      } else if (state === IN_NUMBER) {
        position = readNumber(position);
      } else if (state === IN_LITERAL) {
        position = readLiteral(position);
      } else if (WHITESPACE[chunk[position] as number] === 1) {
        output.cut(chunk, position);
        position = whitespace.read(chunk, position);
      } else {
        whitespace.reset();
        position = readStructure(position);
      }
    }
    output.cut(chunk, end);
    checkSize(end);
  }

  function readStructure(position: number): number {
    const byte = chunk[position] as number;
    switch (state) {
      case VALUE_OR_END:
        return byte === BYTE.closeBracket ? endContainer(position) : beginValue(byte, position);
      case NAME_OR_END:
        return byte === BYTE.closeBrace ? endContainer(position) : beginName(byte, position);
      case NAME:
        return beginName(byte, position);
      case COLON:
        if (byte !== BYTE.colon) failUnexpected("':'", position);
        state = VALUE;
        return keepSeparator(position);
      case AFTER_VALUE:
        return readAfterValue(byte, position);
      case VALUE:
        return beginValue(byte, position);
      default:
        return failUnexpected('the end of the text', position);
    }
  }

  function readAfterValue(byte: number, position: number): number {
    const inObject = current === undefined ? visits.inObject() : captured.inObject();
    if (byte === (inObject ? BYTE.closeBrace : BYTE.closeBracket)) return endContainer(position);
    if (byte !== BYTE.comma) failUnexpected(inObject ? "',' or '}'" : "',' or ']'", position);
    state = inObject ? NAME : VALUE;
    if (current === undefined) visits.next();
    else captured.next();
    return keepSeparator(position);
  }

  /** Keeps a colon or comma, and counts the space that PostgreSQL writes after it. */
  function keepSeparator(position: number): number {
    if (current !== undefined) {
      output.open(position);
      output.extra += 1;
    }
    return position + 1;
  }

  function beginValue(byte: number, position: number): number {
    const type = typeOf(byte);
    if (type === undefined) {
      if (byte === 0xef && base + position === 0) fail('invalid_json', 'Expected a value, found a byte order mark', 0);
      failUnexpected('a value', position);
    }
    if (current === undefined) {
      const visit = visits.visitOf(type, base + position);
      if (visit.kind === 'object' || visit.kind === 'array') {
        visits.enter(visit);
        state = visit.kind === 'object' ? NAME_OR_END : VALUE_OR_END;
        return position + 1;
      }
      const end = readCanonical(visit, type, chunk, position, base);
      if (end >= 0) {
        endValue(end);
        return end;
      }
      beginCapture(visit, type, position);
    }
    if (type === 'object' || type === 'array') return enterContainer(type, position);
    if (type === 'number') {
      state = IN_NUMBER;
      numbers.begin(base + position, current?.kind === 'capture');
      return readNumber(position);
    }
    output.open(position);
    if (type === 'string') return beginString(position, false);
    state = IN_LITERAL;
    literals.begin(byte);
    return position + 1;
  }

  function beginCapture(visit: CaptureVisit | SkipVisit, type: JsonType, position: number): void {
    current = visit;
    currentType = type;
    captureOffset = base + position;
    output.reset(visit.kind === 'capture');
    captured.reset();
  }

  function enterContainer(type: 'object' | 'array', position: number): number {
    const maxDepth = current?.maxDepth ?? 0;
    if (captured.depth() >= maxDepth) fail('nested_too_deeply', `The value has more than ${maxDepth} levels`, position);
    output.open(position);
    captured.enter(type === 'object');
    state = type === 'object' ? NAME_OR_END : VALUE_OR_END;
    return position + 1;
  }

  function endContainer(position: number): number {
    if (current === undefined) {
      visits.leave(base + position);
    } else {
      output.open(position);
      captured.leave();
    }
    endValue(position + 1);
    return position + 1;
  }

  function endValue(position: number): void {
    if (current !== undefined) {
      if (captured.depth() > 0) {
        state = AFTER_VALUE;
        return;
      }
      endCapture(current, position);
    }
    state = visits.depth() > 0 ? AFTER_VALUE : NOTHING;
  }

  function endCapture(visit: CaptureVisit | SkipVisit, position: number): void {
    output.cut(chunk, position);
    checkSize(position);
    current = undefined;
    if (visit.kind === 'skip') return;
    const canonicalBytes = output.length + output.extra;
    const text = output.take(visit.borrows === 'call');
    visit.onValue({ text, type: currentType, canonicalBytes, offset: captureOffset });
  }

  function beginName(byte: number, position: number): number {
    if (byte !== BYTE.quote) failUnexpected(state === NAME ? 'a member name' : "a member name or '}'", position);
    if (current === undefined) {
      captureOffset = base + position;
      output.reset(true);
    }
    output.open(position);
    nameStart = output.textPosition(position + 1);
    nameOffset = base + position;
    return beginString(position, true);
  }

  function beginString(position: number, isName: boolean): number {
    stringIsName = isName;
    strings.begin();
    state = IN_STRING;
    return readString(position + 1);
  }

  function readString(from: number): number {
    const position = strings.read(chunk, from, base);
    if (strings.isClosed()) (stringIsName ? endName : endValue)(position);
    return position;
  }

  function endName(position: number): void {
    if (current === undefined) endVisitedName(position);
    else if (current.kind === 'capture') endCapturedName(current, position);
    state = COLON;
  }

  function endCapturedName({ duplicates }: CaptureVisit, position: number): void {
    captured.setName(nameStart, output.textPosition(position - 1));
    if (duplicates !== 'keep' && !captured.addName(chunk, position)) failDuplicate(position);
  }

  /** Ends the name of a visited member and requests the visit for its value. */
  function endVisitedName(position: number): void {
    output.cut(chunk, position);
    checkSize(position);
    const name = String(JSON.parse(output.bytes.toString('utf8', 0, output.length)));
    if (!visits.addName(name)) failDuplicate(position);
    visits.requestMember(nameOffset);
  }

  function readNumber(from: number): number {
    const position = numbers.read(chunk, from);
    if (numbers.isClosed()) endValue(position);
    return position;
  }

  function readLiteral(from: number): number {
    output.open(from);
    const position = literals.read(chunk, from);
    if (literals.isClosed()) endValue(position);
    return position;
  }

  function endInput(): void {
    const isOutermost = visits.depth() === 0 && captured.depth() === 0;
    if (state === IN_NUMBER && numbers.endInput(isOutermost)) endValue(0);
    if (state === NOTHING) return;
    if (state === VALUE && visits.depth() === 0 && current === undefined) {
      fail('invalid_json', 'Expected a JSON value, found an empty text', 0);
    }
    throw new JsonTruncatedError(`The text ends early, at byte ${base}.`, placeAt(base));
  }

  /** Throws if the captured text up to `position` is too large. Runs before other checks at the same position. */
  function checkSize(position: number): void {
    const isName = current === undefined && state === IN_STRING;
    const maxBytes = isName ? limits.maxMemberNameBytes : current?.kind === 'capture' ? current.maxBytes : Infinity;
    if (output.canonicalSize(position) <= maxBytes) return;
    const place = { ...visits.place(current), offset: captureOffset };
    if (isName) throw new LoomError('invalid_string', `A member name has more than ${maxBytes} bytes.`, place);
    throw new LoomError('document_too_large', `The value has more than ${maxBytes} bytes, the maximum.`, place);
  }

  function fail(code: ErrorCode, message: string, position: number, faultOffset = base + position): never {
    output.cut(chunk, position);
    checkSize(position);
    throw new LoomError(code, `${message}, at byte ${faultOffset}.`, placeAt(faultOffset));
  }

  function failUnexpected(expected: string, position: number): never {
    return fail('invalid_json', `Expected ${expected}, found ${showByte(chunk[position] as number)}`, position);
  }

  function failDuplicate(position: number): never {
    return fail('duplicate_member', 'An object has a duplicate member', position, nameOffset);
  }

  function placeAt(offset: number): LoomErrorOptions {
    const { pointer, ...place } = visits.place(current);
    const inner = current?.kind === 'capture' ? captured.pointer() : '';
    return { ...place, pointer: pointer + inner, offset };
  }

  function guarded(step: () => void): void {
    if (failure !== undefined) throw failure.error;
    try {
      step();
    } catch (error) {
      failure = { error };
      throw error;
    }
  }

  return {
    write(bytes) {
      chunk = Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      guarded(scanChunk);
      base += chunk.length;
      chunk = EMPTY;
    },
    end: () => guarded(endInput),
    offset: () => base,
    heldBytes: () => output.heldBytes() + captured.heldBytes(),
  };
}
