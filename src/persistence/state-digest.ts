/**
 * SQL of the digest over all documents that stand in `rows`, which has their `name` and `sha256`: lower-case hex, as
 * `createStateDigest` makes it. An aggregate: to be selected from those rows.
 */
export function stateDigest(rows: string): string {
  const pairs = `sha256(convert_to(${rows}.name, 'UTF8')) || ${rows}.sha256`;
  return `encode(sha256(coalesce(string_agg(${pairs}, ''::bytea order by ${rows}.name), '')), 'hex')`;
}
