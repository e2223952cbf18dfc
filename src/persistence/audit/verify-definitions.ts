import { randomInt } from 'node:crypto';
import { chainHash, sha256Hex } from '../../backup/format/digests.ts';
import type { AuditHead, AuditMismatch } from '../../domain/audit.ts';
import { GENESIS_HASH } from '../../domain/audit.ts';
import { limits } from '../../limits.ts';
import type { Queries } from '../connection/connection.ts';
import { describeRedefinition, findRedefinitions, type Redefinition } from '../schema/definitions.ts';
import type { Mismatches } from './verify-changes.ts';

/** Compares LOOM's objects with those of the migrations, and reports the ones that are `shadowed`. */
export async function checkDefinitions(queries: Queries, shadowed: Redefinition[]): Promise<Mismatches> {
  const found = [...shadowed, ...(await findRedefinitions(queries))];
  return describeAll(found.map(describeRedefinition));
}

function describeAll(details: string[]): Mismatches {
  const listed = details.map((detail): AuditMismatch => ({ reason: 'definition_mismatch', detail }));
  return { count: listed.length, listed };
}

interface SampledEntry {
  seq: number;
  text: string;
  hash: string;
  previous_hash: string | null;
  names: (string | null)[];
}

interface SampledDocument {
  name: string;
  text: string;
  sha256: string;
}

/**
 * Computes some hashes in the node, because PostgreSQL's own functions may be redefined, too: those of the first and
 * last entry, of others that are drawn at random, and of the documents that these name. Call it only if PostgreSQL
 * finds that all of them match.
 */
export async function checkSample(queries: Queries, stateKey: string, head: AuditHead): Promise<Mismatches> {
  const seqs = drawSeqs(head.seq);
  const entries = await queries.rows<SampledEntry>(
    `select a.seq, text, encode(a.hash, 'hex') as hash, encode(p.hash, 'hex') as previous_hash,
            array(select jsonb_path_query(a.entry, 'lax $.changes[*].name') #>> '{}' limit 4) as names
       from loom_audit a
       left join loom_audit p on p.state_key = $1 and p.seq = a.seq - 1
      cross join lateral (select a.entry::text as text offset 0) printed
      where a.state_key = $1 and a.seq = any ($2::bigint[]) and octet_length(text) <= $3`,
    [stateKey, seqs, limits.maxSampledBytes],
  );
  const wrong = entries
    .filter(
      ({ text, hash, previous_hash: previous }) => chainHash(previous ?? GENESIS_HASH, Buffer.from(text)) !== hash,
    )
    .map(({ seq }) => `PostgreSQL finds the hash of entry ${seq} right, and this node finds it wrong.`);
  const names = [...new Set(entries.flatMap((entry) => entry.names))].slice(0, limits.maxSampledEntries);
  const documents = await queries.rows<SampledDocument>(
    `select name, text, encode(sha256, 'hex') as sha256
       from loom_document cross join lateral (select value::text as text offset 0) printed
      where state_key = $1 and name = any ($2::text[]) and octet_length(text) <= $3`,
    [stateKey, names, limits.maxSampledBytes],
  );
  const different = documents
    .filter(({ text, sha256 }) => sha256Hex(Buffer.from(text)) !== sha256)
    .map(({ name }) => `PostgreSQL finds the digest of ${JSON.stringify(name)} right, and this node finds it wrong.`);
  return describeAll([...wrong, ...different]);
}

/** Draws seqs from 1 to `last`, both of which are always among them. */
function drawSeqs(last: number): number[] {
  if (last <= limits.maxSampledEntries) return Array.from({ length: last }, (_, index) => index + 1);
  const seqs = new Set([1, last]);
  // Beyond 2^48, a random number would have to be made of two. No trail is so long, unless the state row is edited.
  while (seqs.size < limits.maxSampledEntries) seqs.add(randomInt(1, Math.min(last, 2 ** 47)));
  return [...seqs];
}
