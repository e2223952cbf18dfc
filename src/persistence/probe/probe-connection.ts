import type { PostgresConfig } from '../../config/config.ts';
import { limits } from '../../limits.ts';
import { type Fault, faultOf } from '../connection/faults.ts';
import type { Hosts } from '../connection/hosts.ts';
import { createSoleConnection, type SoleConnection } from '../connection/sole-connection.ts';
import type { ServingVerdict } from '../schema/serving.ts';
import { DeadlineError } from './deadline.ts';

export interface ProbeConnectionOptions {
  applicationName: string;
  /** The servers, in an order that the pool shares. */
  hosts: Hosts | undefined;
  /** Time for a whole check. A dead host leaves time for the next one within the same check. */
  deadlineMs: number;
}

/** Holds the probe's connection: opens it for a check, keeps it for the next ones, and renews it from time to time. */
export function createProbeConnection(
  postgres: PostgresConfig,
  { applicationName, hosts, deadlineMs }: ProbeConnectionOptions,
) {
  let connection: SoleConnection | undefined;
  let checks = 0;
  let closed = false;

  function drop(): void {
    connection?.cut();
    connection = undefined;
  }

  function open(): SoleConnection {
    const opened = createSoleConnection(postgres, {
      applicationName,
      hosts,
      connectTimeoutMs: deadlineMs,
      // The next check reconnects. Reconnecting at once would flood a server that cuts every connection.
      onLost: () => {
        if (connection === opened) drop();
      },
    });
    return opened;
  }

  async function connect(): Promise<SoleConnection> {
    const opened = open();
    connection = opened;
    checks = 0;
    await opened.connect();
    return opened;
  }

  /**
   * Replaces the connection. A setting of the database or the role, such as `default_transaction_read_only`, applies
   * only to new sessions. Keeps the old connection if the server has no room for another, because the node still serves
   * then.
   */
  async function renew(old: SoleConnection, deadline: Promise<never>): Promise<SoleConnection> {
    const opened = open();
    checks = 0;
    try {
      await Promise.race([opened.connect(), deadline]);
    } catch (error) {
      opened.cut();
      if (error instanceof DeadlineError || refusalOf(error) !== undefined) throw error;
      return old;
    }
    old.cut();
    connection = opened;
    if (closed) drop();
    return opened;
  }

  return {
    isOpen: () => connection !== undefined,
    isClosed: () => closed,
    /** Returns the connection for one check. Rejects with the error of `deadline` if that rejects first. */
    lend: async (deadline: Promise<never>): Promise<SoleConnection> => {
      if (connection === undefined) return Promise.race([connect(), deadline]);
      checks += 1;
      return checks < limits.maxProbeConnectionChecks ? connection : renew(connection, deadline);
    },
    /** Cuts the connection. The next check opens another. */
    drop,
    /** Cuts the connection for good. */
    close: (): void => {
      closed = true;
      drop();
    },
  };
}

/** Returns the verdict on a server that answers and refuses the connection, because a right or a primary is missing. */
export function refusalOf(error: unknown): ServingVerdict | undefined {
  return refusals[faultOf(error)];
}

const refusals: Partial<Record<Fault, ServingVerdict>> = {
  forbidden: { database: 'forbidden', schema: 'unknown', reason: 'db_forbidden' },
  read_only: { database: 'read_only', schema: 'unknown', reason: 'db_read_only' },
};
