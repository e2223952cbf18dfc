import { BYTE } from '../../json/bytes.ts';
import { afterSeparator, isPlain, MemberCursor, readValue, wholeNumberOf } from '../../json/canonical-members.ts';
import { limits } from '../../limits.ts';
import type { EntryMembers } from './entry-forms.ts';

/** Tells where a value lies in a text, a string with its quotes. The start is -1 if there is no value. */
export interface Span {
  start: number;
  end: number;
}

export function noSpan(): Span {
  return { start: -1, end: -1 };
}

/** Finds the span of a member by its name, without making a string of that. */
export class SpanIndex {
  private readonly spans: Span[];
  /** By the length of the name. */
  private readonly members: { name: string; span: Span }[][] = [];

  constructor(spans: Record<string, Span>) {
    this.spans = Object.values(spans);
    for (const [name, span] of Object.entries(spans)) {
      this.members[name.length] ??= [];
      this.members[name.length]?.push({ name, span });
    }
  }

  clear(): void {
    for (const span of this.spans) span.start = -1;
  }

  /** `start` and `end` are the positions of the name in the text, with its quotes. */
  find(text: Buffer, start: number, end: number): Span | undefined {
    const members = this.members[end - start - 2];
    if (members === undefined) return undefined;
    for (const { name, span } of members) if (isName(text, start, name)) return span;
    return undefined;
  }
}

/**
 * Bounds the strings that are read: the longest name with each byte escaped. An action is only required to be a string.
 */
const MAX_STRING_BYTES = 6 * limits.maxDocumentNameBytes + 2;

/** Returns whether a name of the same length, whose quote is at `start`, is this one. */
function isName(text: Buffer, start: number, name: string): boolean {
  for (let index = 0; index < name.length; index += 1) {
    if (text[start + 1 + index] !== name.charCodeAt(index)) return false;
  }
  return true;
}

/**
 * Holds where the members lie in the text of one audit entry. It makes values of them only on request: most are only
 * checked and copied, and an entry may have tens of MiB.
 */
export class EntryText {
  /** Valid JSON, captured or in canonical form. A hash at its beginning has no spaces around it. */
  text: Buffer = Buffer.alloc(0);
  readonly seq = noSpan();
  readonly hash = noSpan();
  readonly eventId = noSpan();
  readonly recordedAt = noSpan();
  readonly action = noSpan();
  readonly idempotencyKey = noSpan();
  readonly revision = noSpan();
  readonly epoch = noSpan();
  readonly changes = noSpan();
  /** What a restore or an undo did. */
  readonly restore = noSpan();
  readonly undo = noSpan();
  /** Where the name `hash` begins. */
  hashNameStart = -1;
  private readonly cursor = new MemberCursor(this.text, -1);
  private readonly index = new SpanIndex({
    seq: this.seq,
    hash: this.hash,
    event_id: this.eventId,
    recorded_at: this.recordedAt,
    action: this.action,
    idempotency_key: this.idempotencyKey,
    revision: this.revision,
    epoch: this.epoch,
    changes: this.changes,
    restore: this.restore,
    undo: this.undo,
  });

  /** Reads another entry. `members` are the places of its members, see `CapturedValue`. */
  read(text: Buffer, members?: readonly number[]): void {
    this.text = text;
    this.index.clear();
    if (members === undefined) {
      const { cursor } = this;
      cursor.enter(text, 1);
      while (cursor.next()) this.addMember(cursor.nameStart, cursor.nameEnd, cursor.valueEnd);
      return;
    }
    for (let index = 0; index < members.length; index += 3) {
      this.addMember(members[index] as number, members[index + 1] as number, members[index + 2] as number);
    }
  }

  private addMember(nameStart: number, nameEnd: number, valueEnd: number): void {
    const span = this.index.find(this.text, nameStart, nameEnd);
    if (span === undefined) return;
    span.start = afterSeparator(this.text, nameEnd);
    span.end = valueEnd;
    if (span === this.hash) this.hashNameStart = nameStart;
  }

  /** Returns the value as `JSON.parse` does, but an overlong string as an empty one, and null for another container. */
  value({ start, end }: Span): unknown {
    if (start < 0) return undefined;
    const first = this.text[start];
    if (first === BYTE.openBrace || first === BYTE.openBracket) return null;
    if (first === BYTE.quote && end - start > MAX_STRING_BYTES) return '';
    return readValue(this.text, start, end);
  }

  /** Returns the text of a string that is known to be plain. */
  plain({ start, end }: Span): string {
    return this.text.toString('latin1', start + 1, end - 1);
  }

  /** Returns whether the value is this string, which is plain. */
  is({ start, end }: Span, value: string): boolean {
    const { text } = this;
    if (start < 0 || end - start !== value.length + 2 || text[start] !== BYTE.quote) return false;
    for (let index = 0; index < value.length; index += 1) {
      if (text[start + 1 + index] !== value.charCodeAt(index)) return false;
    }
    return true;
  }

  /** Returns whether the value is a string without escapes and of ASCII only. */
  isPlain({ start, end }: Span): boolean {
    return start >= 0 && this.text[start] === BYTE.quote && isPlain(this.text, start + 1, end - 1);
  }

  /**
   * Removes a well-formed hash. Returns where the rest of the text begins: a hash at the beginning is cut, with the
   * opening brace, and any other one is blanked in place.
   */
  removeHash(): { start: number; isCut: boolean } {
    const { text, hash, hashNameStart } = this;
    const hasNext = text[hash.end] === BYTE.comma;
    if (hashNameStart === 1 && hasNext) return { start: hash.end + 1, isCut: true };
    const separator = hasNext || hashNameStart === 1 ? hashNameStart : text.lastIndexOf(BYTE.comma, hashNameStart);
    text.fill(BYTE.space, separator, hasNext ? hash.end + 1 : hash.end);
    return { start: 0, isCut: false };
  }

  /** Returns the seq of an entry in which it is well-formed. */
  seqNumber(): number {
    return wholeNumberOf(this.text, this.seq.start, this.seq.end) ?? Number.NaN;
  }

  /** Returns a whole number: a bigint if it may be too large for an exact number. */
  integer({ start, end }: Span): number | bigint {
    return wholeNumberOf(this.text, start, end) ?? BigInt(this.text.toString('latin1', start, end));
  }

  /** Returns the values of the checked members. */
  members(): EntryMembers {
    return {
      seq: this.value(this.seq),
      hash: this.value(this.hash),
      event_id: this.value(this.eventId),
      recorded_at: this.value(this.recordedAt),
      action: this.value(this.action),
      idempotency_key: this.value(this.idempotencyKey),
      revision: this.value(this.revision),
      epoch: this.value(this.epoch),
    };
  }
}
