import { createHash } from 'node:crypto';
import type { PoolClient } from 'pg';
import { copyLines } from '../connection/copy.ts';

/**
 * Counts and digests what stands in `rows`, a table with `name` and `sha256`, and a condition if need be: code, never input. The digest is
 * that of `createStateDigest`. Not by an aggregate: PostgreSQL would hold it all in memory, and cannot hold more than 1 GiB, which
 * 16.7 million documents are.
 */
export async function digestDocuments(
  client: PoolClient,
  rows: string,
): Promise<{ documents: number; sha256: string }> {
  const hash = createHash('sha256');
  let documents = 0;
  const pairs = `select encode(sha256(convert_to(name, 'UTF8')) || sha256, 'hex') from ${rows} order by name`;
  for await (const lines of copyLines(client, pairs)) {
    documents += lines.length;
    hash.update(Buffer.concat(lines).toString('latin1'), 'hex');
  }
  return { documents, sha256: hash.digest('hex') };
}
