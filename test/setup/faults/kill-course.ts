import type { ParsedBackup } from '../backup/chain.ts';
import type { Random } from '../values/random.ts';
import type { Arena, Sight } from './kills.ts';

export type Kind = 'replacing' | 'truncating' | 'undo';

export interface Operation {
  kind: Kind;
  path: 'restore' | 'undo';
  body: string;
  /** Digest of the documents that it brings. */
  target: string;
}

/** How many in a hundred operations are an undo, where there is a restore to be undone. */
const UNDO_PERCENT = 15;

/**
 * Goes to and fro between two states: the earlier backup replaces the later one's documents, and the later one truncates the
 * trail back to itself. An undo goes back likewise. So no operation ever finds that there is nothing to change.
 */
export function createCourse(arena: Arena, random: Random) {
  let isLater = true;
  let undoing: { from: string; to: string } | undefined;
  const restores = {
    replacing: restoreOf('replacing', arena.earlier),
    truncating: restoreOf('truncating', arena.later),
  };
  return {
    /** What to do next to what is there. */
    next: ({ stateSha256 }: Sight): Kind => {
      // With other commits in between an undo brings back what it knows of, and leaves the rest.
      if (undoing?.from === stateSha256 && random.integer(1, 100) <= UNDO_PERCENT) return 'undo';
      return isLater ? 'replacing' : 'truncating';
    },
    operation: (kind: Kind): Operation =>
      kind === 'undo' ? { kind, path: 'undo', body: '{"confirm":"undo"}', target: undoing?.to ?? '' } : restores[kind],
    /** To be told of each operation that was done. */
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
