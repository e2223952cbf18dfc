import type { z } from 'zod';
import {
  deleteRequestSchema,
  type RestoreOptions,
  restoreRequestSchema,
  toOptions,
  type UndoOptions,
  undoRequestSchema,
} from '../../domain/request.ts';
import { scratchKeyFault } from '../../domain/state.ts';
import { LoomError } from '../../errors.ts';
import type { Decoded } from '../format/decoder.ts';
import { type CheckedBackup, checkFrame } from './frame.ts';
import { selectedNameFault } from './selection.ts';
import { toShapeError } from './shape.ts';

export interface CheckedRequest {
  options: RestoreOptions;
  backup: CheckedBackup;
}

export interface CheckContext {
  stateKey: string;
  schemaVersion: number;
}

/**
 * Checks the parts of a restore request that need no database: the members other than `backup`, the backup's frame,
 * then the state key. Throws the first fault with its own code.
 */
export function checkRequest({ request, backup }: Decoded, context: CheckContext): CheckedRequest {
  const options = checkOptions(request);
  if (backup === undefined) {
    const detail = 'The member "backup" is missing. Send a backup, or the name of a stored one as "from".';
    throw new LoomError('invalid_restore_request', detail, { pointer: '/backup' });
  }
  const { schemaVersion } = context;
  // A pointer leads into the stored backup if it is not in the body.
  const pointer = options.from === undefined ? '/backup' : '';
  const checked = checkFrame(backup, pointer, { schemaVersion, acceptUnverified: options.acceptUnverified });
  assertStateKey(checked, options, { ...context, pointer });
  if (options.truncateAudit && !checked.hasAudit) {
    throw new LoomError(
      'invalid_restore_request',
      '"truncate_audit" is true, but the backup has no audit trail, so the restore would remove all history. ' +
        'Use a backup with its audit trail, or omit "truncate_audit".',
      { pointer: '/truncate_audit' },
    );
  }
  if (options.documents !== undefined && !checked.hasState) {
    throw invalid('documents', 'selects documents, but the backup contains no state. Use a backup with its state');
  }
  return { options, backup: checked };
}

/**
 * Returns the name of the stored backup that a restore request asks for; undefined if the body has the backup. Checks
 * all members first, so that nothing is read from the store for a request that is not valid.
 */
export function readSource({ request, backup }: Decoded): string | undefined {
  if (request.from === undefined) return undefined;
  const { from } = checkOptions(request);
  if (backup === undefined) return from;
  throw invalid('from', 'names a stored backup, but the body also has a "backup". Send one of them');
}

/** Checks an undo request as `JSON.parse` returned it. Throws `confirm_missing` or `invalid_undo_request`. */
export function checkUndoRequest(body: unknown): UndoOptions {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new LoomError('invalid_undo_request', 'The body is not a JSON object. Send {"confirm":"undo"}.', {
      pointer: '',
    });
  }
  assertConfirmed(body, undoRequestSchema.shape.confirm);
  const parsed = undoRequestSchema.safeParse(body);
  if (!parsed.success) throw toShapeError('invalid_undo_request', parsed.error, '');
  const { confirm: _, ...members } = parsed.data;
  return toOptions(members);
}

/** Checks a request to delete a stored backup. Throws `confirm_missing` or `invalid_delete_request`. */
export function checkDeleteRequest(body: unknown): void {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new LoomError('invalid_delete_request', 'The body is not a JSON object. Send {"confirm":"delete"}.', {
      pointer: '',
    });
  }
  assertConfirmed(body, deleteRequestSchema.shape.confirm);
  const parsed = deleteRequestSchema.safeParse(body);
  if (!parsed.success) throw toShapeError('invalid_delete_request', parsed.error, '');
}

function checkOptions(request: Record<string, unknown>): RestoreOptions {
  assertConfirmed(request, restoreRequestSchema.shape.confirm);
  const parsed = restoreRequestSchema.safeParse(request);
  if (!parsed.success) throw toShapeError('invalid_restore_request', parsed.error, '');
  const { confirm: _, ...members } = parsed.data;
  const options = toOptions(members);
  if (options.intoScratch !== undefined) assertFitsScratch(options, options.intoScratch);
  if (options.documents !== undefined) assertSelects(options, options.documents);
  return options;
}

/** Refuses what contradicts a selection: it takes nothing but documents, and a scratch state proves a whole backup. */
function assertSelects({ replaceState, truncateAudit, intoScratch }: RestoreOptions, documents: string[]): void {
  if (!replaceState) {
    throw invalid('replace_state', 'is false, so the restore would change no document. Omit it to restore "documents"');
  }
  if (truncateAudit) {
    throw invalid('truncate_audit', 'is true, but a restore of "documents" leaves the audit trail as it is. Omit it');
  }
  if (intoScratch !== undefined) {
    throw invalid('into_scratch', 'restores a whole backup. Omit it, or omit "documents"');
  }
  for (const [index, element] of documents.entries()) {
    const fault = selectedNameFault(element);
    if (fault !== undefined) throw invalid(`documents/${index}`, `is not a document name or prefix: it ${fault}`);
  }
}

function assertFitsScratch({ replaceState, expectRevision }: RestoreOptions, key: string): void {
  const fault = scratchKeyFault(key);
  if (fault !== undefined) throw invalid('into_scratch', `is not a valid state key: it ${fault}`);
  if (!replaceState) {
    throw invalid('replace_state', 'is false, but a scratch state needs a state to restore. Omit it');
  }
  if (expectRevision !== undefined) {
    throw invalid('expect_revision', 'is set, but a new scratch state has no revision yet. Omit it');
  }
}

function invalid(member: string, fault: string): LoomError {
  return new LoomError('invalid_restore_request', `"${member}" ${fault}.`, { pointer: `/${member}` });
}

function assertConfirmed(body: object, { value: word }: z.ZodLiteral<'restore' | 'undo' | 'delete'>): void {
  if ('confirm' in body && body.confirm === word) return;
  throw new LoomError(
    'confirm_missing',
    `The body has no "confirm":"${word}". Add it to confirm the ${word === 'delete' ? 'deletion' : word}.`,
    { pointer: '/confirm' },
  );
}

function assertStateKey(
  { origin }: CheckedBackup,
  options: RestoreOptions,
  { stateKey, pointer }: CheckContext & { pointer: string },
): void {
  // Only an unverified backup can lack a state key.
  if (origin.stateKey === null || origin.stateKey === stateKey || origin.stateKey === options.acceptStateKey) return;
  throw new LoomError(
    'state_key_mismatch',
    `The backup has state key ${JSON.stringify(origin.stateKey)}; this node serves ${JSON.stringify(stateKey)}. ` +
      'To restore it here, set "accept_state_key" to the state key of the backup.',
    { pointer: `${pointer}/state_key` },
  );
}
