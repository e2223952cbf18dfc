import { createHash } from 'node:crypto';
import type { Connection } from '../connection/connection.ts';

/**
 * Counts the documents in `rows` and computes their digest as `createStateDigest` does. `rows` is a table with `name`
 * and `sha256`, optionally with a condition. Never pass input in it: it becomes SQL. PostgreSQL streams the pairs,
 * because an aggregate is limited to 1 GiB of memory (16.7 million documents).
 */
export async function digestDocuments(
  connection: Connection,
  rows: string,
): Promise<{ documents: number; sha256: string }> {
  const hash = createHash('sha256');
  let documents = 0;
  const pairs = `select encode(sha256(convert_to(name, 'UTF8')) || sha256, 'hex') from ${rows} order by name`;
  for await (const lines of connection.copyOut(pairs)) {
    documents += lines.length;
    hash.update(Buffer.concat(lines).toString('latin1'), 'hex');
  }
  return { documents, sha256: hash.digest('hex') };
}
