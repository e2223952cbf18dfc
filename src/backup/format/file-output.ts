/** Parts from this size on are not copied. */
const LONG_PART_BYTES = 64 * 1024;

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const SPACE = 0x20;
const COMMA = 0x2c;
const LINE_FEED = 0x0a;

/** Collects the next bytes of a section of the file. */
export class FileOutput {
  private parts: Buffer[] = [];
  private open: Buffer = Buffer.alloc(0);
  private start = 0;
  private length = 0;
  private items = 0;

  /** Prepares for a block of about `size` bytes. */
  begin(size: number): void {
    this.open = Buffer.allocUnsafe(size);
    this.start = 0;
    this.length = 0;
    this.parts = [];
  }

  /** Appends what precedes the next item: each has its own line. */
  separate(): void {
    this.reserve(2);
    if (this.items > 0) this.open[this.length++] = COMMA;
    this.open[this.length++] = LINE_FEED;
    this.items += 1;
  }

  /** Appends an ASCII text. */
  ascii(text: string): void {
    this.reserve(text.length);
    this.length += this.open.write(text, this.length, 'latin1');
  }

  /** Appends bytes, without a copy if they are many. */
  copy(bytes: Buffer, start: number, end: number): void {
    if (end - start >= LONG_PART_BYTES) {
      this.close();
      this.parts.push(bytes.subarray(start, end));
      return;
    }
    this.reserve(end - start);
    this.length += bytes.copy(this.open, this.length, start, end);
  }

  /** Appends a name as JSON, followed by a colon. */
  name(bytes: Buffer, start: number, end: number): void {
    for (let index = start; index < end; index += 1) {
      const byte = bytes[index] as number;
      if (byte !== QUOTE && byte !== BACKSLASH && byte >= SPACE) continue;
      const quoted = Buffer.from(`${JSON.stringify(bytes.toString('utf8', start, end))}:`);
      this.copy(quoted, 0, quoted.length);
      return;
    }
    this.ascii('"');
    this.copy(bytes, start, end);
    this.ascii('":');
  }

  /** Ends the block and returns its parts. */
  end(): Buffer[] {
    this.close();
    return this.parts;
  }

  private close(): void {
    if (this.length > this.start) this.parts.push(this.open.subarray(this.start, this.length));
    this.start = this.length;
  }

  private reserve(size: number): void {
    if (this.length + size <= this.open.length) return;
    this.close();
    this.open = Buffer.allocUnsafe(Math.max(size, LONG_PART_BYTES));
    this.start = 0;
    this.length = 0;
  }
}
