import { LoomError } from '../errors.ts';
import { createJsonScanner } from './scanner/scanner.ts';
import type { Visit } from './visit.ts';

// src/json/ reads JSON in chunks, preserves numbers exactly and writes PostgreSQL's canonical text. It is pure: it may
// import only errors and limits. It must not know documents or backups: visits (visit.ts) tell it how to treat a value.

/** Scans a complete text. Throws the scanner's errors, and `invalid_string` for a lone surrogate. */
export function scanText(text: Uint8Array | string, root: Visit): void {
  if (typeof text === 'string' && !text.isWellFormed()) {
    throw new LoomError('invalid_string', 'The text contains a lone surrogate, which UTF-8 cannot encode.');
  }
  const scanner = createJsonScanner(root);
  scanner.write(typeof text === 'string' ? Buffer.from(text) : text);
  scanner.end();
}
