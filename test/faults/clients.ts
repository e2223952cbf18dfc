import { setTimeout as sleep } from 'node:timers/promises';
import { createRandom, type Random } from '../setup/values/random.ts';
import type { History } from './history.ts';
import type { Change, Operation, Read } from './operation.ts';
import { type Answer, createSender, type Sender } from './send.ts';

export interface Load {
  operations: Operation[];
  reads: Read[];
  /** What no answer may say, such as a second effect of the same key. */
  faults: string[];
  /** Lets each client end what it began, for at most this time. */
  stop(maxMs: number): Promise<void>;
}

const CLIENTS = 6;
const DOCUMENTS = 8;
const MAX_PAUSE_MS = 60;
const RETRY_MS = 200;
/** The error codes of a node that has certainly not made the commit. */
const NOTHING_DONE = ['starting', 'draining', 'database_unavailable', 'node_busy', 'queue_full', 'state_busy'];
/** Codes of Node for a connection that was never made. */
const NOT_SENT = ['ECONNREFUSED'];

/**
 * Starts clients that commit until they are stopped. Each prefers one address of `urls`, and takes the next one after a
 * failure. All choices depend on the seed, although their order in time does not.
 */
export function startLoad(urls: string[], seed: number, history: History): Load {
  const operations: Operation[] = [];
  const reads: Read[] = [];
  const faults: string[] = [];
  let stopping = false;
  const aborting = new AbortController();
  const clients = Array.from({ length: CLIENTS }, async (_, index) => {
    const random = createRandom(seed * 31 + index);
    const sender = createSender(history, faults);
    const client = createClient({
      name: `client-${index + 1}`,
      urls,
      first: index,
      random,
      sender,
      history,
      reads,
      faults,
    });
    let count = 0;
    while (!stopping) {
      count += 1;
      await client.act(count, operations, aborting.signal);
      await sleep(random.integer(5, MAX_PAUSE_MS));
    }
    sender.close();
  });
  return {
    operations,
    reads,
    faults,
    stop: async (maxMs) => {
      stopping = true;
      const timer = setTimeout(() => aborting.abort(), maxMs);
      await Promise.all(clients);
      clearTimeout(timer);
    },
  };
}

interface ClientOptions {
  name: string;
  urls: string[];
  first: number;
  random: Random;
  sender: Sender;
  history: History;
  reads: Read[];
  faults: string[];
}

function createClient({ name, urls, first, random, sender, history, reads, faults }: ClientOptions) {
  let at = first;
  let lastMade: Operation | undefined;
  const address = (): string => urls[at % urls.length] ?? '';

  /** Returns the tag of a document; `absent` if there is none; undefined if the read fails. */
  const readTag = async (document: string): Promise<Operation['condition']> => {
    const beganMs = history.now();
    const answer = await sender.send(address(), { method: 'GET', path: `/v1/documents/${document}` });
    if (answer.status === 404) return 'absent';
    const [epoch, revision] = (answer.etag ?? '').replaceAll('"', '').split('.');
    if (answer.status !== 200 || epoch === undefined) return undefined;
    const tag = { epoch, revision: Number(revision) };
    reads.push({ name: document, tag, beganMs });
    return tag;
  };

  const draw = async (count: number): Promise<Operation> => {
    const id = `${name}-${count}`;
    const document = `document-${random.integer(1, DOCUMENTS)}`;
    const kind = random.fraction();
    const key = random.fraction() < 0.7 ? `key-${id}` : undefined;
    const value = { by: id, text: 'x'.repeat(random.integer(0, 1_500)) };
    const put: Change = { op: 'put', name: document, value };
    const drawn = (changes: Change[], condition?: Operation['condition']): Operation => {
      const began = history.now();
      return {
        id,
        key,
        changes,
        condition,
        beganMs: began,
        endedMs: began,
        attempts: [],
        outcome: 'refused',
        receipts: [],
      };
    };
    if (kind < 0.3) return drawn([put]);
    if (kind < 0.5) return drawn([{ op: 'merge', name: document, value: { [name]: id } }]);
    if (kind < 0.58) return drawn([{ op: 'delete', name: document }]);
    if (kind < 0.66) {
      const other: Change = { op: 'merge', name: `shared-${random.integer(1, 2)}`, value: { [name]: id } };
      return drawn([{ ...put, op: 'merge' }, other]);
    }
    return drawn([put], await readTag(document));
  };

  /** Repeats a commit that was made. The node must repeat its answer, unless the database has lost it. */
  const repeat = async (operation: Operation): Promise<void> => {
    const answer = await sender.commit(address(), operation);
    const receipt = answer.receipt;
    if (receipt === undefined) return;
    const known = operation.receipts.some(({ eventId }) => eventId === receipt.eventId);
    if (answer.isReplayed && !known) faults.push(`${operation.id}: a repeated answer has another event id`);
    if (!known) operation.receipts.push(receipt);
  };

  const act = async (count: number, operations: Operation[], signal: AbortSignal): Promise<void> => {
    if (lastMade?.key !== undefined && random.fraction() < 0.05) await repeat(lastMade);
    const operation = await draw(count);
    operations.push(operation);
    while (!(await attempt(operation, address(), sender, history))) {
      at += 1;
      if (operation.key === undefined) break;
      if (signal.aborted) {
        faults.push(`${operation.id} could not be made after the last recovery: ${operation.attempts.at(-1)}`);
        break;
      }
      await sleep(RETRY_MS);
    }
    operation.endedMs = history.now();
    if (operation.outcome === 'acknowledged') lastMade = operation;
  };
  return { act };
}

/** Sends a commit once. Returns whether its outcome is final. */
export async function attempt(operation: Operation, url: string, sender: Sender, history: History): Promise<boolean> {
  const began = history.now();
  const answer = await sender.commit(url, operation);
  const { label } = answer;
  operation.attempts.push(
    `${(began / 1_000).toFixed(3)}–${(history.now() / 1_000).toFixed(3)} ${new URL(url).port} ${label}`,
  );
  if (answer.receipt !== undefined) {
    operation.outcome = 'acknowledged';
    operation.receipts.push(answer.receipt);
    return true;
  }
  if (!isRefusal(answer)) operation.outcome = 'unknown';
  if (![404, 412].includes(answer.status)) history.count(`${new URL(url).port} ${label}`);
  return answer.status >= 400 && answer.status < 500;
}

function isRefusal({ status, code }: Answer): boolean {
  if (status >= 400 && status < 500) return true;
  return code !== undefined && (NOTHING_DONE.includes(code) || (status === 0 && NOT_SENT.includes(code)));
}
