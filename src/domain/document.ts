import { z } from 'zod';
import { LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import { count, epoch, revision, time } from './forms.ts';

export const documentSummarySchema = z.object({
  name: z.string(),
  revision,
  bytes: count.describe('Length of the canonical text'),
  updated_at: time,
});

/** Describes one document in a listing. */
export type DocumentSummary = z.output<typeof documentSummarySchema>;

export const documentPageSchema = z.object({
  documents: z.array(documentSummarySchema).describe('In byte order of the names'),
  next: z.string().nullable().describe('Value of "after" for the next page; null on the last page'),
  epoch,
  revision: revision.describe('Revision of the state'),
});

export type DocumentPage = z.output<typeof documentPageSchema>;

/** Holds one document as read from the database. `text` is PostgreSQL's text of the jsonb. */
export interface StoredDocument {
  text: string;
  revision: number;
  epoch: string;
  updatedAt: string;
}

/**
 * Throws `invalid_document_name` unless the name has 1 to 512 UTF-8 bytes and no control character (C0, DEL, C1) or
 * lone surrogate. It refuses `.` and `..` because RFC 3986 §5.2.4 removes them from a path.
 */
export function assertDocumentName(name: string, pointer?: string): void {
  const fault = documentNameFault(name);
  if (fault === undefined) return;
  throw new LoomError('invalid_document_name', `The document name ${fault}.`, pointer === undefined ? {} : { pointer });
}

/** Defines a document name. The bound on characters in the OpenAPI document follows from the bound on bytes. */
export const documentNameSchema = z
  .string()
  .check(({ value, issues }) => {
    const message = documentNameFault(value);
    if (message !== undefined) issues.push({ code: 'custom', input: value, message });
  })
  .meta({ minLength: 1, maxLength: limits.maxDocumentNameBytes });

/** Returns the fault of a document name as a predicate, such as "is empty"; undefined for a valid name. */
export function documentNameFault(name: string): string | undefined {
  if (name === '') return 'is empty';
  if (name === '.' || name === '..') return 'is "." or "..", which cannot be a segment of a URL';
  if (!name.isWellFormed()) return 'contains a lone surrogate';
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
  if (/[\u0000-\u001f\u007f-\u009f]/.test(name)) return 'contains a control character';
  const bytes = Buffer.byteLength(name, 'utf8');
  if (bytes > limits.maxDocumentNameBytes) return `has ${bytes} bytes; the maximum is ${limits.maxDocumentNameBytes}`;
  return undefined;
}
