import { LoomError } from '../errors.ts';
import { createJsonScanner } from './scanner.ts';
import type { JsonType, Visit, VisitPlace } from './visit.ts';

export interface NormalizeOptions {
  /** Most bytes of the canonical text. */
  maxBytes: number;
  /** Most containers around a scalar. */
  maxDepth: number;
  place?: VisitPlace;
}

export interface NormalDocument {
  /** JSON text as `CapturedValue.text` describes it. */
  text: string;
  /** Length in bytes of PostgreSQL's `jsonb::text` of the value. */
  canonicalBytes: number;
  type: JsonType;
}

/** Checks and normalises one whole JSON value. Errors as `createJsonScanner`. */
export function normalizeDocument(bytes: Uint8Array | string, options: NormalizeOptions): NormalDocument {
  let document: NormalDocument | undefined;
  scanJson(bytes, {
    kind: 'capture',
    ...options,
    onValue: ({ text, canonicalBytes, type }) => {
      document = { text: text.toString('utf8'), canonicalBytes, type };
    },
  });
  if (document === undefined) throw new Error('a scan that ended well has captured its value');
  return document;
}

/** Scans a whole text at once. Errors as `createJsonScanner`; a JavaScript string must be well-formed (`invalid_string`). */
export function scanJson(bytes: Uint8Array | string, root: Visit): void {
  if (typeof bytes === 'string' && !bytes.isWellFormed()) {
    throw new LoomError('invalid_string', 'A text must not hold a lone surrogate.');
  }
  const scanner = createJsonScanner(root);
  scanner.write(typeof bytes === 'string' ? Buffer.from(bytes) : bytes);
  scanner.end();
}
