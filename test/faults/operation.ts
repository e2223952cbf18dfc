/** An entity tag, in its parts. */
export interface Tag {
  epoch: string;
  revision: number;
}

export interface Change {
  op: 'put' | 'merge' | 'delete';
  name: string;
  value?: unknown;
}

export interface Receipt extends Tag {
  eventId: string;
}

/** One commit that a client wants, with all attempts to make it. */
export interface Operation {
  /** The audit entry of the commit has it as its actor. */
  id: string;
  /** The idempotency key, with which a client repeats a commit whose outcome it does not know. */
  key: string | undefined;
  changes: Change[];
  /** The tag that the document must have; `absent` if it must not exist. */
  condition: Tag | 'absent' | undefined;
  beganMs: number;
  endedMs: number;
  attempts: string[];
  /**
   * - `acknowledged`: a node said that the commit is made.
   * - `refused`: every attempt was refused, and so nothing was made.
   * - `unknown`: at least one attempt has an unknown outcome, and no later one was acknowledged.
   */
  outcome: 'acknowledged' | 'refused' | 'unknown';
  /** The answers that say it is made. There are several if the client repeated it afterwards. */
  receipts: Receipt[];
}

/** A document that a client has read. */
export interface Read {
  name: string;
  tag: Tag;
  beganMs: number;
}

/** An audit entry of the database, as far as the model needs it. */
export interface RecordedEntry {
  seq: number;
  revision: number;
  epoch: string;
  event_id: string;
  action: string;
  actor_name?: string;
  changes: (Change & { revision?: number })[];
  epoch_change?: { reason: string; previous_epoch: string; previous_revision: number };
}
