import { type ErrorCode, LoomError, type LoomErrorOptions } from '../errors.ts';
import { limits } from '../limits.ts';
import { BYTE, showByte, typeOf, WHITESPACE } from './bytes.ts';
import { createDescents } from './descent.ts';
import { createLiteralReader } from './literal-reader.ts';
import { createNesting } from './nesting.ts';
import { createNumberReader } from './number-reader.ts';
import { SpanOutput } from './output.ts';
import { shortPointer } from './pointer.ts';
import { createStringReader } from './string-reader.ts';
import type { ArrayVisit, CaptureVisit, JsonType, ObjectVisit, SkipVisit, Visit } from './visit.ts';
import { createWhitespaceReader } from './whitespace-reader.ts';

/** An incremental scanner of one JSON text (RFC 8259, strictly; UTF-8 without a byte order mark). */
export interface JsonScanner {
  /** Takes the next bytes, cut anywhere. Calls the visits' callbacks before it returns; keeps no reference to the chunk. */
  write(chunk: Uint8Array): void;
  /** The input has ended: throws `JsonTruncatedError` when a value is still open. */
  end(): void;
  /** Bytes of the chunks that have been taken. */
  readonly offset: number;
}

/** The input ended inside a value that was good so far: its code is `invalid_json`, `offset` the length of the input. */
export class JsonTruncatedError extends LoomError {
  constructor(message: string, place: LoomErrorOptions) {
    super('invalid_json', message, place);
    this.name = 'JsonTruncatedError';
  }
}

/** What comes next in the text. */
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
 * Errors are LoomErrors with `offset`, and `pointer` from the root (or from `place.pointer` of the visit):
 * `invalid_json` (also for an empty text, a byte order mark and anything after the value), `invalid_utf8`,
 * `invalid_string` (`\u0000`, lone surrogates, endless names), `invalid_number`, `duplicate_member`, `nested_too_deeply`,
 * `document_too_large`, `body_too_large` (endless whitespace). What a callback throws passes through. After any throw the scanner throws the same error again.
 * The result, errors included, does not depend on where the chunks are cut.
 */
export function createJsonScanner(root: Visit): JsonScanner {
  const output = new SpanOutput();
  const strings = createStringReader(output, fail);
  const numbers = createNumberReader(output, fail);
  const literals = createLiteralReader(fail);
  const whitespace = createWhitespaceReader(fail);
  const nesting = createNesting(output);
  const descents = createDescents(root);
  let state = VALUE;
  let chunk = EMPTY;
  /** Offset of the chunk's first byte in the input. */
  let base = 0;
  let failure: { error: unknown } | undefined;

  /** The value that is captured or skipped; undefined between the members of containers that were gone into. */
  let current: CaptureVisit | SkipVisit | undefined;
  let currentType: JsonType = 'null';
  /** Whether the string under way is a member's name; `current` tells whose. */
  let stringIsName = false;
  /** Offset where the captured value, or the name, began: what is too large. */
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
        return failUnexpected('nothing after the value', position);
    }
  }

  function readAfterValue(byte: number, position: number): number {
    const object = current === undefined ? descents.inObject : nesting.inObject;
    if (byte === (object ? BYTE.closeBrace : BYTE.closeBracket)) return endContainer(position);
    if (byte !== BYTE.comma) failUnexpected(object ? "',' or '}'" : "',' or ']'", position);
    state = object ? NAME : VALUE;
    if (current === undefined) descents.next();
    else nesting.next();
    return keepSeparator(position);
  }

  /** PostgreSQL writes a blank behind each colon and comma. */
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
      if (byte === 0xef && base + position === 0) fail('invalid_json', 'The text begins with a byte order mark', 0);
      failUnexpected('a value', position);
    }
    if (current === undefined) {
      const visit = descents.visitOf(type, base + position);
      if (visit.kind === 'object' || visit.kind === 'array') return descend(visit, position);
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

  function descend(visit: ObjectVisit | ArrayVisit, position: number): number {
    descents.enter(visit);
    state = visit.kind === 'object' ? NAME_OR_END : VALUE_OR_END;
    return position + 1;
  }

  function beginCapture(visit: CaptureVisit | SkipVisit, type: JsonType, position: number): void {
    current = visit;
    currentType = type;
    captureOffset = base + position;
    output.reset(visit.kind === 'capture');
    nesting.reset();
  }

  function enterContainer(type: 'object' | 'array', position: number): number {
    const most = current?.maxDepth ?? 0;
    if (nesting.depth >= most)
      fail('nested_too_deeply', `A value must not be nested deeper than ${most} levels`, position);
    output.open(position);
    nesting.enter(type === 'object');
    state = type === 'object' ? NAME_OR_END : VALUE_OR_END;
    return position + 1;
  }

  function endContainer(position: number): number {
    if (current === undefined) {
      descents.leave(base + position);
    } else {
      output.open(position);
      nesting.leave();
    }
    endValue(position + 1);
    return position + 1;
  }

  function endValue(position: number): void {
    if (current !== undefined) {
      if (nesting.depth > 0) {
        state = AFTER_VALUE;
        return;
      }
      endCapture(current, position);
    }
    state = descents.depth > 0 ? AFTER_VALUE : NOTHING;
  }

  function endCapture(visit: CaptureVisit | SkipVisit, position: number): void {
    output.cut(chunk, position);
    checkSize(position);
    current = undefined;
    if (visit.kind === 'skip') return;
    const canonicalBytes = output.length + output.extra;
    visit.onValue({ text: output.take(), type: currentType, canonicalBytes, offset: captureOffset });
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
    if (strings.closed) endString(position);
    return position;
  }

  function endString(position: number): void {
    if (!stringIsName) {
      endValue(position);
      return;
    }
    if (current === undefined) endOwnName(position);
    else if (current.kind === 'capture') endCapturedName(current, position);
    state = COLON;
  }

  function endCapturedName({ duplicates }: CaptureVisit, position: number): void {
    nesting.nameEnded(nameStart, output.textPosition(position - 1));
    if (duplicates !== 'keep' && !nesting.addName(chunk, position)) failDuplicate(position);
  }

  /** A name in an object that was gone into: its visit says what becomes of the member. */
  function endOwnName(position: number): void {
    output.cut(chunk, position);
    checkSize(position);
    const name = String(JSON.parse(output.bytes.toString('utf8', 0, output.length)));
    if (!descents.addName(name)) failDuplicate(position);
    descents.askMember(nameOffset);
  }

  function readNumber(from: number): number {
    const position = numbers.read(chunk, from);
    if (numbers.closed) endValue(position);
    return position;
  }

  function readLiteral(from: number): number {
    output.open(from);
    const position = literals.read(chunk, from);
    if (literals.closed) endValue(position);
    return position;
  }

  function endInput(): void {
    if (state === IN_NUMBER) {
      const whole = descents.depth === 0 && nesting.depth === 0;
      if (numbers.endInput(whole)) endValue(0);
    }
    if (state === NOTHING) return;
    if (state === VALUE && descents.depth === 0 && current === undefined) {
      fail('invalid_json', 'The text is empty: expected a value', 0);
    }
    throw new JsonTruncatedError(`The text ends too early, at byte ${base}.`, placeAt(base));
  }

  /** Throws `document_too_large` when what has been read of the capture up to `position` is. It comes before other errors. */
  function checkSize(position: number): void {
    const ownName = current === undefined && state === IN_STRING;
    const most = ownName ? limits.maxMemberNameBytes : current?.kind === 'capture' ? current.maxBytes : Infinity;
    if (output.canonicalSize(position) <= most) return;
    const { pointer, ...rest } = descents.place(current);
    const place = { ...rest, pointer: shortPointer(pointer), offset: captureOffset };
    if (ownName) throw new LoomError('invalid_string', `A member name has more than ${most} bytes.`, place);
    throw new LoomError('document_too_large', `The value has more than ${most} bytes.`, place);
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
    return fail('duplicate_member', 'An object has two members of this name', position, nameOffset);
  }

  function placeAt(offset: number): LoomErrorOptions {
    const { pointer, ...place } = descents.place(current);
    const inner = current?.kind === 'capture' ? nesting.pointer() : '';
    return { ...place, pointer: shortPointer(pointer + inner), offset };
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
    end() {
      guarded(endInput);
    },
    get offset() {
      return base;
    },
  };
}
