import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';

/** What a listing tells of one document. */
export interface DocumentSummary {
  name: string;
  revision: number;
  /** Length of the canonical text in bytes. */
  bytes: number;
  updated_at: string;
}

/** One document as it is read: `text` is PostgreSQL's text of the jsonb. */
export interface StoredDocument {
  text: string;
  revision: number;
  epoch: string;
  updatedAt: string;
}

/**
 * Throws `invalid_document_name` unless the name has 1 to 512 UTF-8 bytes, no control character (C0, DEL, C1), no lone
 * surrogate, and is neither `.` nor `..`: RFC 3986 §5.2.4 removes those from a path, so no URL could name them.
 */
export function assertDocumentName(name: string, pointer?: string): void {
  const fault = documentNameFault(name);
  if (fault === undefined) return;
  throw new LoomError('invalid_document_name', `A document name ${fault}.`, pointer === undefined ? {} : { pointer });
}

export function documentNameFault(name: string): string | undefined {
  if (name === '') return 'must not be empty';
  if (name === '.' || name === '..') return 'must not be "." or "..", which no URL can name';
  if (!name.isWellFormed()) return 'must not hold a lone surrogate';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what it looks for
  if (/[\u0000-\u001f\u007f-\u009f]/.test(name)) return 'must not hold control characters';
  const bytes = Buffer.byteLength(name, 'utf8');
  if (bytes > limits.maxDocumentNameBytes)
    return `must have at most ${limits.maxDocumentNameBytes} bytes, and this one has ${bytes}`;
  return undefined;
}
