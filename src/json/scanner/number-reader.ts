import { limits } from '../../limits.ts';
import { BYTE, OF_NUMBER, showByte } from '../bytes.ts';
import { exactNormalNumber, isPlainlyNormal, numberFault, plainNumberLength } from '../exact-number.ts';
import type { Fail } from './fault.ts';
import type { TextOutput } from './text-output.ts';

/** Bounds the characters that an error message quotes. */
const MAX_SHOWN_CHARACTERS = 40;

export interface NumberReader {
  /** Begins a number at this offset of the input. Without `mustBeExact`, checks only the grammar. */
  begin(offset: number, mustBeExact: boolean): void;
  /** Reads up to the end of the number or of the chunk. Returns the position after the last byte read. */
  read(chunk: Buffer, from: number): number;
  /** Ends the input inside the number. Returns false if the number or a container around it is incomplete. */
  endInput(isOutermost: boolean): boolean;
  isClosed(): boolean;
}

/** Reads numbers and writes their normal form to `output`. Checks a number at its end, joined from all chunks. */
export function createNumberReader(output: TextOutput, fail: Fail): NumberReader {
  /** The part of the number in earlier chunks. */
  let carried = '';
  let startOffset = 0;
  let exact = true;
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
    if (closed && text.length === position - from && exact && exactNormalNumber(text) === text && !text.includes('e')) {
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
      fail('invalid_json', `Invalid number: found ${showByte(found)}`, position, startOffset + fault);
    }
    if (!exact) return;
    const normal = exactNormalNumber(text);
    if (normal === undefined) {
      const shown = text.length > MAX_SHOWN_CHARACTERS ? `${text.slice(0, MAX_SHOWN_CHARACTERS)}…` : text;
      fail('invalid_number', `The number ${shown} cannot be stored exactly as a double`, position, startOffset);
    }
    output.push(normal);
    if (normal.includes('e')) output.extra += plainNumberLength(normal) - normal.length;
  }

  return {
    begin(offset, mustBeExact) {
      carried = '';
      startOffset = offset;
      exact = mustBeExact;
    },
    read,
    endInput(isOutermost) {
      const fault = numberFault(carried);
      const broken = fault >= 0 && fault < carried.length;
      if (!broken && (fault >= 0 || !isOutermost)) return false;
      take(carried, 0, undefined);
      return true;
    },
    isClosed: () => closed,
  };
}
