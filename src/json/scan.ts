import { LoomError } from '../errors.ts';
import { createJsonScanner } from './scanner.ts';
import type { Visit } from './visit.ts';

/** Scans a whole text at once. Errors as `createJsonScanner`; a JavaScript string must be well-formed (`invalid_string`). */
export function scanJson(bytes: Uint8Array | string, root: Visit): void {
  if (typeof bytes === 'string' && !bytes.isWellFormed()) {
    throw new LoomError('invalid_string', 'A text must not hold a lone surrogate.');
  }
  const scanner = createJsonScanner(root);
  scanner.write(typeof bytes === 'string' ? Buffer.from(bytes) : bytes);
  scanner.end();
}
