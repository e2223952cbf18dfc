import { scratchKeyFault } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import type { Decoded } from '../format/decoder.ts';
import {
  type RestoreOptions,
  restoreMembersSchema,
  toOptions,
  type UndoOptions,
  undoMembersSchema,
} from '../format/request.ts';
import { type CheckedBackup, checkFrame } from './frame.ts';
import { shapeFault } from './shape.ts';

export interface CheckedRequest {
  options: RestoreOptions;
  backup: CheckedBackup;
}

export interface CheckContext {
  stateKey: string;
  schemaVersion: number;
}

/**
 * Checks everything in a restore request that needs no database: the request's own members, the backup's frame, then
 * whether this state accepts the backup. Throws the first fault with its own code.
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
      '"truncate_audit" is true, but the backup has no audit trail: no history would remain. ' +
        'Use a backup with its audit trail, or leave "truncate_audit" out.',
      { pointer: '/truncate_audit' },
    );
  }
  return { options, backup: checked };
}

/** Checks an undo request as `JSON.parse` returned it. Throws `confirm_missing` or `invalid_undo_request`. */
export function checkUndoRequest(body: unknown): UndoOptions {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new LoomError('invalid_undo_request', 'The body is not a JSON object.', { pointer: '' });
  }
  const { confirm, ...members } = body as Record<string, unknown>;
  assertConfirmed(confirm, 'undo');
  const parsed = undoMembersSchema.safeParse(members);
  if (!parsed.success) throw shapeFault('invalid_undo_request', parsed.error, '');
  return toOptions(parsed.data);
}

function checkOptions({ confirm, ...members }: Record<string, unknown>): RestoreOptions {
  assertConfirmed(confirm, 'restore');
  const parsed = restoreMembersSchema.safeParse(members);
  if (!parsed.success) throw shapeFault('invalid_restore_request', parsed.error, '');
  const options = toOptions(parsed.data);
  if (options.intoScratch !== undefined) assertFitsScratch(options, options.intoScratch);
  return options;
}

function assertFitsScratch({ replaceState, expectRevision }: RestoreOptions, key: string): void {
  const fault = scratchKeyFault(key);
  if (fault !== undefined) throw invalid('into_scratch', `names a state key, which ${fault}`);
  if (!replaceState) {
    throw invalid('replace_state', 'is false with "into_scratch": nothing would be restored. Leave it out');
  }
  if (expectRevision !== undefined) {
    throw invalid('expect_revision', 'is set with "into_scratch": a new state has no revision yet. Leave it out');
  }
}

function invalid(member: string, fault: string): LoomError {
  return new LoomError('invalid_restore_request', `"${member}" ${fault}.`, { pointer: `/${member}` });
}

function assertConfirmed(given: unknown, word: 'restore' | 'undo'): void {
  if (given === word) return;
  throw new LoomError('confirm_missing', `The body has no "confirm":"${word}". Add it to confirm the ${word}.`, {
    pointer: '/confirm',
  });
}

function assertStateKey({ origin }: CheckedBackup, options: RestoreOptions, { stateKey }: CheckContext): void {
  // Only a backup that was accepted unverified may lack a state key.
  if (origin.stateKey === null || origin.stateKey === stateKey || origin.stateKey === options.acceptStateKey) return;
  throw new LoomError(
    'state_key_mismatch',
    `The backup is of state key ${JSON.stringify(origin.stateKey)}; this node serves ${JSON.stringify(stateKey)}. ` +
      'To restore it here, set "accept_state_key" to the state key of the backup.',
    { pointer: '/backup/state_key' },
  );
}
