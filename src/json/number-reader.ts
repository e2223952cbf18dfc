import { limits } from '../limits.ts';
import { BYTE, OF_NUMBER, showByte } from './bytes.ts';
import { exactNormalNumber, isPlainlyNormal, numberFault, plainNumberLength } from './exact-number.ts';
import type { SpanOutput } from './output.ts';
import type { Fail } from './string-reader.ts';

/** Most characters of a number that an error message quotes. */
const SHOWN_CHARACTERS = 40;

export interface NumberReader {
  /** A number begins at this offset of the input. Unless it is judged, only its grammar is checked. */
  begin(offset: number, judged: boolean): void;
  /** Reads on in the number, up to the first byte that is not of it or the chunk's end; returns the position behind. */
  read(chunk: Buffer, from: number): number;
  /** The input has ended in the number: takes it if it is whole (as far as one can know), or else returns false. */
  endInput(whole: boolean): boolean;
  /** A byte that is not of the number has been met, and the number taken. */
  readonly closed: boolean;
}

/** Reads numbers into `output` in their normal form. What all chunks have of a number is judged at its end, as one token. */
export function createNumberReader(output: SpanOutput, fail: Fail): NumberReader {
  /** What earlier chunks had of it. */
  let carried = '';
  let startOffset = 0;
  let judging = true;
  let closed = false;

  function read(chunk: Buffer, from: number): number {
    const end = chunk.length;
    let position = from;
    while (position < end && OF_NUMBER[chunk[position] as number] === 1) position += 1;
    closed = position < end;
    if (closed && carried === '' && isPlainlyNormal(chunk, from, position)) {
      output.open(from);
      return position;
    }
    const text = carried + chunk.toString('latin1', from, position);
    if (
      closed &&
      text.length === position - from &&
      judging &&
      exactNormalNumber(text) === text &&
      !text.includes('e')
    ) {
      output.open(from);
      return position;
    }
    output.cut(chunk, from);
    if (text.length > limits.maxNumberBytes) {
      fail('invalid_number', `A number has more than ${limits.maxNumberBytes} characters`, position, startOffset);
    }
    if (closed) take(text, position, chunk[position]);
    else carried = text;
    return position;
  }

  function take(text: string, position: number, next: number | undefined): void {
    const fault = numberFault(text);
    if (fault >= 0) {
      const found = fault < text.length ? text.charCodeAt(fault) : (next ?? BYTE.space);
      fail('invalid_json', `${showByte(found)} has no place here in a number`, position, startOffset + fault);
    }
    if (!judging) return;
    const normal = exactNormalNumber(text);
    if (normal === undefined) {
      const shown = text.length > SHOWN_CHARACTERS ? `${text.slice(0, SHOWN_CHARACTERS)}…` : text;
      fail('invalid_number', `The number ${shown} is not exactly that of a double`, position, startOffset);
    }
    output.push(normal);
    if (normal.includes('e')) output.extra += plainNumberLength(normal) - normal.length;
  }

  return {
    begin(offset, judged) {
      carried = '';
      startOffset = offset;
      judging = judged;
    },
    read,
    endInput(whole) {
      const fault = numberFault(carried);
      const broken = fault >= 0 && fault < carried.length;
      if (!broken && (fault >= 0 || !whole)) return false;
      take(carried, 0, undefined);
      return true;
    },
    get closed() {
      return closed;
    },
  };
}
