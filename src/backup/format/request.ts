import { z } from 'zod';
import type { RestoreOptions } from '../../domain/backup.ts';
import { scratchKeyFault } from '../../domain/state.ts';
import type { UndoRequest } from '../../domain/undo.ts';
import { LoomError } from '../../errors.ts';
import { type CheckedBackup, checkFrame } from '../check/frame.ts';
import type { Decoded } from './decoder.ts';
import { shapeFault } from './shape.ts';

const revision = z.int().min(0);

const restoreSchema = z.strictObject({
  confirm: z.unknown(),
  replace_state: z.boolean().default(true),
  truncate_audit: z.boolean().default(false),
  dry_run: z.boolean().default(false),
  expect_revision: revision.optional(),
  accept_state_key: z.string().optional(),
  accept_unverified: z.boolean().default(false),
  into_scratch: z.string().optional(),
});

const undoSchema = z.strictObject({
  confirm: z.unknown(),
  dry_run: z.boolean().default(false),
  expect_revision: revision.optional(),
  event_id: z.uuid().optional(),
});

export interface CheckedRequest {
  options: RestoreOptions;
  backup: CheckedBackup;
}

export interface CheckContext {
  stateKey: string;
  schemaVersion: number;
}

/**
 * Judges everything of a restore request that needs no database: the request's own members, then version, schema, header,
 * manifest and its digest, then whether this state may take it. Throws the first fault with its own code.
 */
export function checkRequest({ request, backup }: Decoded, context: CheckContext): CheckedRequest {
  const options = checkOptions(request);
  if (backup === undefined) {
    throw new LoomError('invalid_restore_request', 'The member "backup" is missing.', { pointer: '/backup' });
  }
  const { schemaVersion } = context;
  const checked = checkFrame(backup, '/backup', { schemaVersion, acceptUnverified: options.acceptUnverified });
  assertStateKey(checked, options, context);
  if (options.truncateAudit && !checked.hasAudit) {
    throw new LoomError(
      'invalid_restore_request',
      'truncate_audit needs a backup with its audit trail: this one would leave no history.',
      { pointer: '/truncate_audit' },
    );
  }
  return { options, backup: checked };
}

/** Throws `confirm_missing` or `invalid_undo_request`. `body` is what `JSON.parse` gave. */
export function checkUndoRequest(body: unknown): UndoRequest {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new LoomError('invalid_undo_request', 'The body must be a JSON object.', { pointer: '' });
  }
  assertConfirmed(Reflect.get(body, 'confirm'), 'undo');
  const parsed = undoSchema.safeParse(body);
  if (!parsed.success) throw shapeFault('invalid_undo_request', parsed.error, '');
  const { dry_run: dryRun, expect_revision: expectRevision, event_id: eventId } = parsed.data;
  return {
    dryRun,
    ...(expectRevision === undefined ? {} : { expectRevision }),
    ...(eventId === undefined ? {} : { eventId: eventId.toLowerCase() }),
  };
}

function checkOptions(request: Record<string, unknown>): RestoreOptions {
  assertConfirmed(request.confirm, 'restore');
  const parsed = restoreSchema.safeParse(request);
  if (!parsed.success) throw shapeFault('invalid_restore_request', parsed.error, '');
  const { expect_revision, accept_state_key, into_scratch, ...given } = parsed.data;
  if (into_scratch !== undefined) {
    const fault = scratchKeyFault(into_scratch);
    if (fault !== undefined) throw invalid('into_scratch', `is a state key, and ${fault}`);
    if (!given.replace_state)
      throw invalid('replace_state', 'must be true with into_scratch: nothing would be restored');
    if (expect_revision !== undefined) throw invalid('expect_revision', 'does not go with into_scratch, which is new');
  }
  return {
    replaceState: given.replace_state,
    truncateAudit: given.truncate_audit,
    dryRun: given.dry_run,
    acceptUnverified: given.accept_unverified,
    ...(expect_revision === undefined ? {} : { expectRevision: expect_revision }),
    ...(accept_state_key === undefined ? {} : { acceptStateKey: accept_state_key }),
    ...(into_scratch === undefined ? {} : { intoScratch: into_scratch }),
  };
}

function invalid(member: string, fault: string): LoomError {
  return new LoomError('invalid_restore_request', `"${member}" ${fault}.`, { pointer: `/${member}` });
}

function assertConfirmed(given: unknown, word: 'restore' | 'undo'): void {
  if (given === word) return;
  throw new LoomError('confirm_missing', `The body must have "confirm":"${word}".`, { pointer: '/confirm' });
}

function assertStateKey({ origin }: CheckedBackup, options: RestoreOptions, { stateKey }: CheckContext): void {
  // Only a backup that was accepted unverified can be silent about it.
  if (origin.stateKey === null || origin.stateKey === stateKey || origin.stateKey === options.acceptStateKey) return;
  throw new LoomError(
    'state_key_mismatch',
    `The backup was made for state key ${JSON.stringify(origin.stateKey)}, and this node serves ${JSON.stringify(stateKey)}. ` +
      'To restore it here all the same, name its state key in "accept_state_key".',
    { pointer: '/backup/state_key' },
  );
}
