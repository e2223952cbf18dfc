import type { AuditHead } from '../../domain/audit.ts';
import { type ChainCheck, createChainCheck } from './digests.ts';
import type { Rows } from './document-section.ts';
import { FileOutput } from './file-output.ts';

const OPENING_BRACE = 0x7b;
const CLOSING_BRACE = 0x7d;
/** Approximate bytes of an entry in the file in addition to those in a row. */
const ITEM_BYTES = 48;

/** Encodes the audit entries of a backup and checks their chain, see `BackupEncoder`. */
export function createEntrySection(previous: AuditHead) {
  const output = new FileOutput();
  const chain: ChainCheck = createChainCheck(previous);
  let entries = 0;

  function add(seq: number, hash: string, text: Buffer): void {
    chain.add(seq, hash, text);
    entries += 1;
    output.separate();
    output.ascii(`{"hash":"${hash}"`);
    appendMembers(output, text);
  }

  return {
    entry: (seq: number, hash: string, text: Buffer): Buffer => {
      output.begin(text.length + 2 * ITEM_BYTES);
      add(seq, hash, text);
      return Buffer.concat(output.end());
    },
    /** The rows have seq (8 bytes), hash (32 bytes) and canonical text. */
    entries: ({ bytes, fields }: Rows): Buffer[] => {
      output.begin(bytes.length + (ITEM_BYTES * fields.length) / 6);
      for (let field = 0; field < fields.length; field += 6) {
        const seq = Number(bytes.readBigInt64BE(fields[field]));
        const hash = bytes.toString('hex', fields[field + 2], fields[field + 3]);
        const text = bytes.subarray(fields[field + 4], fields[field + 5]);
        // A backup contains the entry without its column. If their seqs differ, seq 0 makes the chain broken.
        add(seqOf(text) === seq ? seq : 0, hash, text);
      }
      return output.end();
    },
    count: () => entries,
    chain,
  };
}

/** Appends the rest of an entry's object after its hash. */
function appendMembers(output: FileOutput, entry: Buffer): void {
  if (entry[0] === OPENING_BRACE) {
    if (entry[1] !== CLOSING_BRACE) output.ascii(',');
    output.copy(entry, 1, entry.length);
    return;
  }
  // After tampering with the table, an entry may not be an object. The file must still be valid JSON.
  output.ascii(',"entry":');
  output.copy(entry, 0, entry.length);
  output.ascii('}');
}

const FIRST_MEMBER = '{"seq": ';
const ZERO = 0x30;
const COMMA = 0x2c;

/** Returns the `seq` of an entry. PostgreSQL writes it first, because no other member has so short a name. */
function seqOf(entry: Buffer): unknown {
  let seq = 0;
  let at = FIRST_MEMBER.length;
  for (let digit = (entry[at] ?? 0) - ZERO; digit >= 0 && digit <= 9; digit = (entry[at] ?? 0) - ZERO) {
    seq = 10 * seq + digit;
    at += 1;
  }
  if (entry[at] === COMMA && entry.toString('latin1', 0, FIRST_MEMBER.length) === FIRST_MEMBER) return seq;
  const value: unknown = JSON.parse(entry.toString('utf8'));
  return typeof value === 'object' && value !== null ? (value as { seq?: unknown }).seq : undefined;
}
