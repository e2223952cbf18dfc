import { Agent, type IncomingMessage, request } from 'node:http';
import { assertDescribed } from '../setup/node/described.ts';
import { ADMIN_TOKEN } from '../setup/node/http.ts';
import type { History } from './history.ts';
import type { Operation, Receipt } from './operation.ts';

export interface Answer {
  /** 0 if the connection broke, or no answer came in time. */
  status: number;
  /** The code of the problem, or of the broken connection. */
  code: string | undefined;
  etag: string | undefined;
  text: string;
  label: string;
}

export interface CommitAnswer extends Answer {
  receipt: Receipt | undefined;
  isReplayed: boolean;
}

interface Question {
  method: string;
  path: string;
  body?: string;
  headers?: Record<string, string>;
}

/** Sends requests of one client over kept connections. */
export interface Sender {
  send(url: string, question: Question): Promise<Answer>;
  commit(url: string, operation: Operation): Promise<CommitAnswer>;
  close(): void;
}

/** A client does not wait longer for an answer. Shorter than a node waits for PostgreSQL. */
const CLIENT_TIMEOUT_MS = 6_000;

/** Creates a sender. It adds each answer that docs/openapi.json does not describe to `faults`. */
export function createSender(history: History, faults: string[], timeoutMs = CLIENT_TIMEOUT_MS): Sender {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const ask = (url: string, { method, path, body, headers = {} }: Question) =>
    new Promise<Answer & { headers: IncomingMessage['headers'] }>((resolve) => {
      const fail = (code: string): void => {
        resolve({ status: 0, code, etag: undefined, text: '', label: code, headers: {} });
      };
      const all = { 'x-loom-admin-token': ADMIN_TOKEN, ...headers };
      const asked = request(`${url}${path}`, { method, agent, headers: all }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk: Buffer) => void chunks.push(chunk));
        response.on('error', (error) => fail(codeOf(error)));
        response.on('end', () => {
          clearTimeout(timer);
          const text = Buffer.concat(chunks).toString('utf8');
          const { statusCode: status = 0, headers: found } = response;
          // A balancer answers for a node that it does not reach.
          const isNode = found['x-request-id'] !== undefined;
          const code = isNode && status >= 400 ? String(JSON.parse(text).code) : undefined;
          if (isNode) checkDescribed({ method, url: path, status, headers: found, text });
          resolve({ status, code, etag: found.etag, text, label: code ?? String(status), headers: found });
        });
      });
      const timer = setTimeout(() => {
        fail('timeout');
        asked.destroy();
      }, timeoutMs);
      asked.on('error', (error) => {
        clearTimeout(timer);
        fail(codeOf(error));
      });
      asked.end(body);
    });
  const checkDescribed = (answer: Parameters<typeof assertDescribed>[0]): void => {
    try {
      assertDescribed(answer);
      if (answer.status === 500) throw new Error(`an internal error: ${answer.text}`);
    } catch (error) {
      history.count(`undescribed answer: ${String(error)}`);
      faults.push(String(error));
    }
  };
  return {
    send: ask,
    commit: async (url, operation) => {
      const { headers, ...answer } = await ask(url, questionOf(operation));
      const isReplayed = headers['idempotency-replayed'] === 'true';
      if (answer.status < 200 || answer.status >= 300) return { ...answer, receipt: undefined, isReplayed };
      const { revision, epoch, event_id: eventId } = JSON.parse(answer.text);
      return { ...answer, receipt: { revision, epoch, eventId }, isReplayed };
    },
    close: () => agent.destroy(),
  };
}

function codeOf(error: Error): string {
  return 'code' in error ? String(error.code) : error.message;
}

const MERGE = 'application/merge-patch+json';

function questionOf({ id, key, changes, condition }: Operation): Question {
  const headers: Record<string, string> = { 'x-loom-actor': id };
  if (key !== undefined) headers['idempotency-key'] = key;
  if (condition === 'absent') headers['if-none-match'] = '*';
  else if (condition !== undefined) headers['if-match'] = `"${condition.epoch}.${condition.revision}"`;
  const [first] = changes;
  if (first === undefined) throw new Error('an operation changes a document');
  if (changes.length > 1) {
    const body = JSON.stringify(Object.fromEntries(changes.map(({ name, value }) => [name, value])));
    return { method: 'PATCH', path: '/v1/state', body, headers: { ...headers, 'content-type': MERGE } };
  }
  const path = `/v1/documents/${first.name}`;
  if (first.op === 'delete') return { method: 'DELETE', path, headers };
  const method = first.op === 'put' ? 'PUT' : 'PATCH';
  const type = first.op === 'put' ? 'application/json' : MERGE;
  return { method, path, body: JSON.stringify(first.value), headers: { ...headers, 'content-type': type } };
}
