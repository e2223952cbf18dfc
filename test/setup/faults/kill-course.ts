import type { ParsedBackup } from '../backup/chain.ts';
import type { Random } from '../values/random.ts';
import type { Arena, Sight } from './arena.ts';

export type Kind = 'replacing' | 'truncating' | 'undo';

export interface Operation {
  kind: Kind;
  path: 'restore' | 'undo';
  body: string;
  /** Digest of the documents that the operation leads to. */
  target: string;
}

/** Percentage of operations that are an undo, if an undo is possible. */
const UNDO_PERCENT = 15;

/**
 * Alternates between two states, so that every operation has something to change. The earlier backup replaces the
 * documents of the later one; the later backup then truncates the audit trail back to its own. An undo returns to the
 * state before it.
 */
export function createCourse(arena: Arena, random: Random) {
  let isLater = true;
  let undoing: { from: string; to: string } | undefined;
  const restores = {
    replacing: restoreOf('replacing', arena.earlier),
    truncating: restoreOf('truncating', arena.later),
  };
  return {
    /** Returns the next operation. If an undo is possible, it occurs at random, and always with `wantsUndo`. */
    next: ({ stateSha256 }: Sight, { wantsUndo }: { wantsUndo: boolean }): Kind => {
      // After other commits, an undo would restore only the documents of its undo record.
      const canUndo = undoing?.from === stateSha256;
      if (canUndo && (wantsUndo || random.integer(1, 100) <= UNDO_PERCENT)) return 'undo';
      return isLater ? 'replacing' : 'truncating';
    },
    operation: (kind: Kind): Operation =>
      kind === 'undo' ? { kind, path: 'undo', body: '{"confirm":"undo"}', target: undoing?.to ?? '' } : restores[kind],
    /** Records an operation that took effect. */
    advance: (before: Sight, after: Sight): void => {
      isLater = !isLater;
      undoing = { from: after.stateSha256, to: before.stateSha256 };
    },
  };
}

function restoreOf(kind: 'replacing' | 'truncating', backup: ParsedBackup): Operation {
  const options = { confirm: 'restore', replace_state: true, truncate_audit: kind === 'truncating' };
  const target = backup.manifest.state_sha256;
  return { kind, path: 'restore', body: JSON.stringify({ ...options, backup }), target };
}
