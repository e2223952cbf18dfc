import { query } from '../server.ts';

export interface Progress {
  /** Position in the WAL, in bytes. */
  wal: number;
  /** Number of the last commit. */
  revision: number;
}

export async function readProgress(url: string): Promise<Progress> {
  return {
    wal: Number(await query(url, `select pg_current_wal_lsn() - '0/0'`)),
    revision: Number(await query(url, `select revision from loom_state where state_key = 'default'`)),
  };
}

/** Returns the bytes of WAL that each commit between two positions has written. */
export function walBytesOfCommit(before: Progress, after: Progress): number {
  return (after.wal - before.wal) / (after.revision - before.revision);
}
