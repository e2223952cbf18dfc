const FIRST_CAPACITY = 1024;
/** Below this many bytes a loop is quicker than a call into the runtime. */
const SHORT_COPY = 32;

/**
 * Collects the text of one capture out of spans of the input: as long as the input may be kept as it is, it is only
 * remembered where the span began. Fields are open because the scanner's inner loops read them.
 */
export class SpanOutput {
  bytes: Buffer = Buffer.allocUnsafe(FIRST_CAPACITY);
  /** Bytes collected, without the open span. */
  length = 0;
  /** By how much the canonical text is longer than the collected one. */
  extra = 0;
  /** Where the open span began in the current chunk; -1 when none is open. */
  spanStart = -1;
  private keeping = true;

  /** Begins a new text. With `keep` false nothing is collected (skipped values). */
  reset(keep: boolean): void {
    this.length = 0;
    this.extra = 0;
    this.spanStart = -1;
    this.keeping = keep;
  }

  open(position: number): void {
    if (this.spanStart < 0) this.spanStart = position;
  }

  /** Ends the open span before `end`. */
  cut(chunk: Buffer, end: number): void {
    const start = this.spanStart;
    if (start < 0) return;
    this.spanStart = -1;
    if (!this.keeping) return;
    const size = end - start;
    this.reserve(size);
    if (size > SHORT_COPY) {
      chunk.copy(this.bytes, this.length, start, end);
    } else {
      const { bytes, length } = this;
      for (let index = 0; index < size; index += 1) bytes[length + index] = chunk[start + index] as number;
    }
    this.length += size;
  }

  /** Appends text of its own; the span must be cut. */
  push(text: string): void {
    if (!this.keeping) return;
    this.reserve(text.length * 3);
    if (text.length > SHORT_COPY || !this.pushAscii(text)) this.length += this.bytes.write(text, this.length, 'utf8');
  }

  /** A short text of ASCII, quicker than a call into the runtime; false and no change when it is not ASCII. */
  private pushAscii(text: string): boolean {
    const { bytes, length } = this;
    for (let index = 0; index < text.length; index += 1) {
      const code = text.charCodeAt(index);
      if (code > 0x7f) return false;
      bytes[length + index] = code;
    }
    this.length += text.length;
    return true;
  }

  /** Where the input byte at `position` of the chunk is, or would be, in the text. */
  textPosition(position: number): number {
    return this.spanStart < 0 ? this.length : this.length + position - this.spanStart;
  }

  /** Canonical bytes of all before `position` of the chunk. */
  canonicalSize(position: number): number {
    return this.textPosition(position) + this.extra;
  }

  /** A copy of the text. */
  take(): Buffer {
    return Buffer.from(this.bytes.subarray(0, this.length));
  }

  private reserve(size: number): void {
    const needed = this.length + size;
    if (needed <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2));
    this.bytes.copy(larger, 0, 0, this.length);
    this.bytes = larger;
  }
}
