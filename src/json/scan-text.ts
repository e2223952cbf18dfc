import { LoomError } from '../errors.ts';
import { createJsonScanner } from './scanner.ts';
import type { Visit } from './visit.ts';

/** Scans a complete text. Throws as `createJsonScanner` does, and `invalid_string` for a lone surrogate. */
export function scanText(text: Uint8Array | string, root: Visit): void {
  if (typeof text === 'string' && !text.isWellFormed()) {
    throw new LoomError('invalid_string', 'The text contains a lone surrogate, which UTF-8 cannot encode.');
  }
  const scanner = createJsonScanner(root);
  scanner.write(typeof text === 'string' ? Buffer.from(text) : text);
  scanner.end();
}
