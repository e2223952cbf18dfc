/** Identifies a revision of the state, or of a document, which is at most that of the state. */
export interface StateRevision {
  epoch: string;
  revision: number;
}

/** Remembers the highest revision that this node has seen in the current epoch. */
export interface SeenRevision {
  note(found: StateRevision): void;
  highest(): StateRevision | undefined;
}

/**
 * Creates the memory of a node. If the database later has a smaller revision in the same epoch, it is an older copy,
 * and `loom_commit` starts a new epoch. A late answer of an earlier epoch only delays this until the next answer.
 */
export function createSeenRevision(): SeenRevision {
  let seen: StateRevision | undefined;
  return {
    note: ({ epoch, revision }) => {
      if (seen?.epoch !== epoch || seen.revision < revision) seen = { epoch, revision };
    },
    highest: () => seen,
  };
}
