import { scanText } from '../../../src/json/scan-text.ts';
import type { JsonType, VisitPlace } from '../../../src/json/visit.ts';

export interface NormalizeOptions {
  /** Maximum length of the canonical text. */
  maxBytes: number;
  /** Maximum number of containers around a scalar. */
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

/** Checks and normalizes one whole JSON value. Throws the errors of `createJsonScanner`. */
export function normalizeDocument(bytes: Uint8Array | string, options: NormalizeOptions): NormalDocument {
  let document: NormalDocument | undefined;
  scanText(bytes, {
    kind: 'capture',
    ...options,
    onValue: ({ text, canonicalBytes, type }) => {
      document = { text: text.toString('utf8'), canonicalBytes, type };
    },
  });
  if (document === undefined) throw new Error('the scan ended without a value');
  return document;
}
