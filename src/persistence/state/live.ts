import type { PoolClient } from 'pg';
import type { AuditHead } from '../../domain/audit.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { CURRENT_SCHEMA_VERSION } from '../schema/schema.ts';

/** Where a state stands, as a restore or undo finds it. */
export interface LiveState {
  epoch: string;
  revision: number;
  documents: number;
  head: AuditHead;
}

/** With `for no key update`, commits of others wait from here on until the transaction ends. */
export async function readLive(
  client: PoolClient,
  stateKey: string,
  lock: '' | 'for no key update',
): Promise<LiveState> {
  await client.query(`select set_config('lock_timeout', $1, true)`, [String(limits.restoreLockTimeoutMs)]);
  const { rows } = await client.query<Omit<LiveState, 'head'> & AuditHead>(
    `select epoch, revision, documents, audit_seq as seq, encode(audit_hash, 'hex') as hash
       from loom_state where state_key = $1 ${lock}`,
    [stateKey],
  );
  const row = rows[0];
  if (row === undefined) throw new LoomError('starting', 'The state does not exist yet.', { retryAfterSeconds: 1 });
  const { seq, hash, ...live } = row;
  return { ...live, head: { seq, hash } };
}

export function assertRevision(live: LiveState, expected: number | undefined): void {
  if (expected === undefined || expected === live.revision) return;
  throw new LoomError(
    'revision_mismatch',
    `The live revision is ${live.revision}, and "expect_revision" is ${expected}.`,
    { pointer: '/expect_revision' },
  );
}

/** To a database of a newer breaking schema nothing is written. */
export async function assertSchemaServes(client: PoolClient): Promise<void> {
  const { rows } = await client.query(
    `select from loom_meta where key = 'schema_compatible_from' and value::int <= $1`,
    [CURRENT_SCHEMA_VERSION],
  );
  if (rows.length > 0) return;
  throw new LoomError('schema_ahead', 'The database has a newer schema, which this node must not write to.');
}

/** How often a plan is made anew, without making anybody wait, because a commit came in between its readings. */
const PLAN_ATTEMPTS = 3;

/**
 * Runs `plan` over the state at one revision. A deed locks the state row first, and commits wait from then on. A dry run reads
 * without a lock and looks whether anything was committed meanwhile; on a state that is never still it takes the lock in the end.
 */
export async function planAtOneRevision<Plan>(
  client: PoolClient,
  { stateKey, dryRun }: { stateKey: string; dryRun: boolean },
  plan: (live: LiveState) => Promise<Plan>,
): Promise<Plan> {
  for (let attempt = dryRun ? 1 : PLAN_ATTEMPTS; ; attempt += 1) {
    const locked = attempt >= PLAN_ATTEMPTS;
    const live = await readLive(client, stateKey, locked ? 'for no key update' : '');
    const made = await plan(live);
    if (locked) return made;
    const after = await readLive(client, stateKey, '');
    if (after.revision === live.revision && after.head.hash === live.head.hash) return made;
  }
}
