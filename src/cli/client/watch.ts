import { randomUUID } from 'node:crypto';
import type { RunningOperation } from '../../domain/store.ts';
import type { NodeClient } from '../../http/client/client.ts';
import type { Progress } from '../terminal/progress.ts';
import { counted } from '../terminal/text.ts';

const POLL_EVERY_MS = 1_000;

/**
 * Sends a request that may take minutes. On a terminal, polls the node's status meanwhile, and shows what the node
 * reports about the operation with the id of the request. A poll without an answer changes nothing.
 */
export async function whileWatched<T>(
  client: NodeClient,
  progress: Progress,
  send: (requestId: string) => Promise<T>,
): Promise<T> {
  const requestId = randomUUID();
  if (!progress.isWatched) return await send(requestId);
  let isAsking = false;
  let isDone = false;
  const poll = async (): Promise<void> => {
    if (isAsking) return;
    isAsking = true;
    try {
      const { operations } = await client.readStatus();
      const operation = operations.find((one) => one.request_id === requestId);
      if (operation !== undefined && !isDone) progress.note(operationText(operation));
    } catch {
      // The answer to the request itself matters, and reports its own failure.
    }
    isAsking = false;
  };
  const timer = setInterval(poll, POLL_EVERY_MS).unref();
  try {
    return await send(requestId);
  } finally {
    isDone = true;
    clearInterval(timer);
  }
}

/** Returns a text that fits on a line of 80 columns, with what comes before it. */
function operationText({ kind, phase, documents, audit_entries: entries }: RunningOperation): string {
  const counts = [
    [documents, 'document'],
    [entries, 'entry'],
  ] as const;
  const said = counts.filter(([count]) => count > 0).map(([count, one]) => counted(count, one));
  return `${phase ?? kind}${said.length === 0 ? '' : `: ${said.join(', ')}`}`;
}
