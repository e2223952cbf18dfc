import { LoomError } from '../../errors.ts';

/**
 * Returns the error for damaged gzip data, after so many decoded bytes. Node's zlib passes on nothing of the block in
 * which it finds the damage, so the offset is a lower bound.
 */
export function damagedGzip(offset: number): LoomError {
  const detail = `The gzip data is damaged, at or after byte ${offset} of the decoded data.`;
  return new LoomError('malformed_request', detail, { offset });
}
