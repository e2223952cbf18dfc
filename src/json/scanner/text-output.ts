const FIRST_CAPACITY = 1024;
/** Bounds the bytes that a loop copies faster than a call into the runtime. */
const SHORT_COPY = 32;

/**
 * Collects the text of one captured value or name from spans of the input. An open span is input that will be copied
 * unchanged; only its start is stored. The fields are public because the scanner's inner loops read them.
 */
export class TextOutput {
  bytes: Buffer = Buffer.allocUnsafe(FIRST_CAPACITY);
  /** Number of bytes collected, without the open span. */
  length = 0;
  /** Number of bytes by which the canonical text exceeds the collected text. */
  extra = 0;
  /** Position in the current chunk where the open span began; -1 when no span is open. */
  spanStart = -1;
  private keeping = true;
  private usedBytes = 0;
  /** The text that was taken last: merged documents mostly have the same length, and a new view has its cost. */
  private view: Buffer = this.bytes.subarray(0, 0);

  /** Begins a new text. Without `keep`, for skipped values, collects nothing. */
  reset(keep: boolean): void {
    this.heldBytes();
    this.length = 0;
    this.extra = 0;
    this.spanStart = -1;
    this.keeping = keep;
  }

  /** Opens a span at `position` unless one is open. */
  open(position: number): void {
    if (this.spanStart < 0) this.spanStart = position;
  }

  /** Copies the open span up to `end` and closes it. */
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

  /** Appends a text that is not in the input. No span may be open. */
  push(text: string): void {
    if (!this.keeping) return;
    this.reserve(text.length * 3);
    if (text.length > SHORT_COPY || !this.pushAscii(text)) this.length += this.bytes.write(text, this.length, 'utf8');
  }

  /** Appends a short ASCII text faster than the runtime does. Returns false for any other text. */
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

  /** Converts a position in the chunk to a position in the text. */
  textPosition(position: number): number {
    return this.spanStart < 0 ? this.length : this.length + position - this.spanStart;
  }

  /** Returns the length of the canonical text before `position` of the chunk. */
  canonicalSize(position: number): number {
    return this.textPosition(position) + this.extra;
  }

  /** Returns the text. With `borrow`, it is not a copy, and valid until the next text begins. */
  take(borrow = false): Buffer {
    if (this.view.length !== this.length) this.view = this.bytes.subarray(0, this.length);
    return borrow ? this.view : Buffer.from(this.view);
  }

  /**
   * Returns the memory in use. Pages of the buffer that were never written to cost nothing. The smaller buffers before
   * it, with as many bytes together, remain until the next garbage collection.
   */
  heldBytes(): number {
    this.usedBytes = Math.max(this.usedBytes, this.length);
    return 2 * this.usedBytes;
  }

  private reserve(size: number): void {
    const needed = this.length + size;
    if (needed <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2));
    this.bytes.copy(larger, 0, 0, this.length);
    this.bytes = larger;
    this.view = larger.subarray(0, 0);
  }
}
