import { createHash } from 'node:crypto';
import { createStateDigest, sha256Hex } from './digests.ts';
import { FileOutput } from './file-output.ts';

/** Holds rows of a table, with the start and end of each field in `bytes`, row by row. */
export interface Rows {
  bytes: Buffer;
  fields: number[];
}

export interface EncodedDocuments {
  parts: Buffer[];
  documents: number;
  /** Length of the canonical texts. */
  bytes: number;
}

/** Approximate bytes of an item in the file in addition to those in a row. */
const ITEM_BYTES = 48;

/** Encodes the documents of a backup and their digests, see `BackupEncoder`. */
export function createDocumentSection() {
  const output = new FileOutput();
  const digestOutput = new FileOutput();
  let documents = 0;
  const state = createStateDigest();
  /** Names and digests of the documents as written and as stored. They differ after tampering with the table. */
  const written = createHash('sha256');
  const stored = createHash('sha256');

  return {
    /** The rows have name and canonical text. */
    documents: ({ bytes: rows, fields }: Rows): EncodedDocuments => {
      output.begin(rows.length);
      let bytes = 0;
      let digests = '';
      for (let field = 0; field < fields.length; field += 4) {
        const nameStart = fields[field] as number;
        const nameEnd = fields[field + 1] as number;
        const start = fields[field + 2] as number;
        const end = fields[field + 3] as number;
        const digest = sha256Hex(rows.subarray(start, end));
        state.addHex(rows.subarray(nameStart, nameEnd), digest);
        digests += `${rows.toString('latin1', nameStart, nameEnd)}\n${digest}`;
        bytes += end - start;
        output.separate();
        output.name(rows, nameStart, nameEnd);
        output.copy(rows, start, end);
      }
      written.update(digests, 'latin1');
      documents += fields.length / 4;
      return { parts: output.end(), documents: fields.length / 4, bytes };
    },
    /** The rows have name and digest (32 bytes). */
    digests: ({ bytes: rows, fields }: Rows): Buffer[] => {
      digestOutput.begin(rows.length + (ITEM_BYTES * fields.length) / 4);
      let digests = '';
      for (let field = 0; field < fields.length; field += 4) {
        const nameStart = fields[field] as number;
        const nameEnd = fields[field + 1] as number;
        const start = fields[field + 2] as number;
        const end = fields[field + 3] as number;
        const digest = rows.toString('hex', start, end);
        digests += `${rows.toString('latin1', nameStart, nameEnd)}\n${digest}`;
        digestOutput.separate();
        digestOutput.name(rows, nameStart, nameEnd);
        digestOutput.ascii(`"${digest}"`);
      }
      stored.update(digests, 'latin1');
      return digestOutput.end();
    },
    /** Returns the digest of the state and its number of documents. Throws if a stored digest is missing or differs. */
    end: (): { documents: number; sha256: string } => {
      if (written.digest('hex') !== stored.digest('hex')) {
        throw new Error('a document has no stored digest, or does not match it');
      }
      return { documents, sha256: state.end() };
    },
  };
}
