import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { OpenBackup } from '../../../src/backup/offline/read.ts';
import { verifyBackup } from '../../../src/backup/offline/verifier.ts';
import { CURRENT_SCHEMA_VERSION } from '../../../src/persistence/schema/schema.ts';
import { depth, rounds, seededRandom, seedLabel } from '../../setup/depth.ts';
import { type Heartbeat, startHeartbeat } from '../../setup/fuzz/heartbeat.ts';
import { judgeAnswer, judgeAnyAnswer, judgeRequestId } from '../../setup/fuzz/judge.ts';
import { createKnown, type Known, learn } from '../../setup/fuzz/known.ts';
import { operations } from '../../setup/fuzz/operations.ts';
import { createRawCase } from '../../setup/fuzz/raw-cases.ts';
import { bytesOf, createRequest, type FuzzRequest, targetOf } from '../../setup/fuzz/requests.ts';
import {
  createWireClient,
  exchangeRaw,
  preview,
  readAnswer,
  type WireAnswer,
  type WireClient,
} from '../../setup/fuzz/wire.ts';
import { tally } from '../../setup/node/nodes.ts';
import { type Program, startProgram, waitUntil, waitUntilReady } from '../../setup/node/program.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

const MiB = 2 ** 20;
const REQUESTS = rounds({ quick: 300, full: 20_000 });
/** Clients that send at the same time. Each learns only from its own answers, so the seed decides what it sends. */
const CLIENTS = 4;
/** After so many requests, the state and the trail become small again, and the node is looked at. */
const STRETCH = 400;
/** After so many faults, the run ends. */
const MAX_FAULTS = 20;
const MAX_ANSWER_MS = 2_000;
/** A request whose answer is slow is sent so often. */
const MAX_ATTEMPTS = 3;
const MAX_GROWTH_BYTES = 192 * MiB;
/** A small bound, so that many documents are at it. */
const MAX_DOCUMENT_BYTES = 16_384;

const tokens = { admin: 'admin-token-of-the-fuzzer-0001', client: 'client-token-of-the-fuzzer-0001' };
const secrets = Object.values(tokens);
const auth = { 'x-loom-admin-token': tokens.admin };

let database: TestDatabase;
let storeFolder: string;
let node: Program;
let port: number;
let heartbeat: Heartbeat;
beforeAll(async () => {
  database = await createTestDatabase();
  storeFolder = await mkdtemp(join(tmpdir(), 'loom-test-fuzz-'));
  node = await startProgram({
    env: {
      LOOM_PG_URL: database.url,
      LOOM_ADMIN_TOKEN: tokens.admin,
      LOOM_CLIENT_TOKEN: tokens.client,
      LOOM_MAX_DOCUMENT_BYTES: String(MAX_DOCUMENT_BYTES),
      LOOM_BACKUP_STORE: pathToFileURL(storeFolder).href,
      // Only requests begin runs, except the first.
      LOOM_BACKUP_SCHEDULE: '0 0 1 1 *',
      LOOM_BACKUP_KEEP: 'last=4',
      NODE_OPTIONS: '--max-old-space-size=256',
    },
  });
  port = Number(new URL(node.url).port);
  heartbeat = startHeartbeat();
  await waitUntilReady(node.url);
});
afterAll(async () => {
  heartbeat.stop();
  await node.stop();
  await database.drop();
  await rm(storeFolder, { recursive: true, force: true });
});

async function send(method: string, path: string, body?: string): Promise<string> {
  const answer = await fetch(`${node.url}${path}`, {
    method,
    headers: { ...auth, 'content-type': 'application/json' },
    ...(body === undefined ? {} : { body }),
  });
  const text = await answer.text();
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
  return text;
}

const backupPath = '/v1/admin/persistence/backup';

/** Restores the backup with its trail. Another client may hold the lock for a moment. */
async function restore(backup: string): Promise<void> {
  const body = `{"confirm":"restore","truncate_audit":true,"backup":${backup}}`;
  const outcome = await waitUntil(
    () => send('POST', '/v1/admin/persistence/restore', body).catch(String),
    (text) => !text.includes('restore_in_progress'),
  );
  if (!outcome.startsWith('{')) throw new Error(outcome);
}

async function residentBytes(): Promise<number> {
  const text = await readFile(`/proc/${node.pid}/status`, 'utf8').catch(() => '');
  const kibibytes = /^VmRSS:\s+(\d+) kB/m.exec(text)?.[1];
  if (kibibytes !== undefined) return Number(kibibytes) * 1024;
  return JSON.parse(await send('GET', '/v1/admin/status')).memory.rss_bytes;
}

/** Describes a fault so that the seed and this text are enough to repeat it. */
interface Fault {
  index: number;
  fault: string;
  changes: string;
  sent: string;
}

const faults: Fault[] = [];
const answered: string[] = [];
let slowestMs = 0;

/** Sends the request of this number. */
async function fuzz(index: number, client: WireClient, known: Known): Promise<void> {
  const random = seededRandom(`fuzz ${index}`);
  if (index % 10 === 9) return fuzzRaw(index, known);
  const request = createRequest(random, known, { ...tokens, maxDocumentBytes: MAX_DOCUMENT_BYTES });
  const bytes = bytesOf(request);
  try {
    const answer = await exchange(request, bytes, client);
    const code = answer.status < 400 || answer.text === '' ? '' : ` ${JSON.parse(answer.text).code}`;
    answered.push(`${request.operation.method} ${request.operation.path} ${answer.status}${code}`);
    if (answer.status >= 300) return;
    learn(known, answer);
    const isCommit = ['PUT', 'PATCH', 'DELETE'].includes(request.method) && answer.text.startsWith('{"revision":');
    const isKeyed = request.headers.some(([name]) => name.toLowerCase() === 'idempotency-key');
    if (isCommit && isKeyed) assertRepeated(answer, await exchange(request, bytes, client));
  } catch (error) {
    if (request.path === backupPath && (await wasCutByOther(String(error)))) {
      answered.push(`${request.operation.method} ${request.operation.path} cut`);
      return;
    }
    faults.push({ index, fault: String(error), changes: request.changes.join('; '), sent: preview(bytes, 600) });
  }
}

/** Returns whether the node cut a backup off because another client removed entries or dropped its scratch state. */
async function wasCutByOther(fault: string): Promise<boolean> {
  const [, requestId] = /^Error: the connection ended before .*?x-request-id: ([\w-]+)/.exec(fault) ?? [];
  if (requestId === undefined) return false;
  const lines = await waitUntil(
    async () =>
      node
        .output()
        .split('\n')
        .filter((line) => line.includes(`"request_id":"${requestId}"`)),
    (found) => found.some((line) => line.includes('"kind":"backup"')),
  ).catch(() => []);
  return lines.some((line) => line.includes('"code":"restore_in_progress"'));
}

async function exchange(request: FuzzRequest, bytes: Buffer, client: WireClient): Promise<WireAnswer> {
  const answer = await exchangeInTime(request, bytes, client);
  judgeAnswer({ method: request.method, target: targetOf(request) }, answer, secrets);
  judgeRequestId(request.headers, answer);
  if (request.method !== 'GET' || answer.status !== 200) return answer;
  if (request.path === backupPath) await verifyBackup(openText(answer.text), { schemaVersion: CURRENT_SCHEMA_VERSION });
  if (request.path === '/v1/audit/verify' && request.query === undefined && !answer.text.startsWith('{"ok":true')) {
    throw new Error(`the trail is not valid: ${answer.text}`);
  }
  return answer;
}

function openText(text: string): OpenBackup {
  return async function* () {
    yield Buffer.from(text);
  };
}

/** Throws unless the second answer is the first one again. A restore in between can have removed the first change. */
function assertRepeated(first: WireAnswer, second: WireAnswer): void {
  if (second.status >= 400) {
    const { code } = JSON.parse(second.text);
    if (code === 'idempotency_key_outdated' || second.status === 503) return;
    throw new Error(`a repeated change was refused: ${second.text}`);
  }
  const [receipt, repeated] = [JSON.parse(first.text), JSON.parse(second.text)];
  const isReplayed = second.headers['idempotency-replayed'] === 'true';
  if (isReplayed ? first.text !== second.text : receipt.epoch === repeated.epoch) {
    throw new Error(`a repeated change got another answer: ${first.text} then ${second.text}`);
  }
}

/** Sends the raw bytes of this number. */
async function fuzzRaw(index: number, known: Known): Promise<void> {
  const { kind, pieces, pauseMs, end, whole } = createRawCase({ random: seededRandom(`raw ${index}`), known, tokens });
  try {
    let rest = await exchangeRaw(port, pieces, { pauseMs, end });
    if (end === 'disconnect') return;
    let answers = 0;
    for (let isClosing = false; rest.length > 0; answers += 1) {
      const request = whole?.[answers];
      if (isClosing) throw new Error(`bytes follow the last answer: ${preview(rest)}`);
      const read = readAnswer(rest, request?.method ?? 'GET', true);
      // A node does not finish the answer to a client that has ended its side.
      if (read === undefined && end !== 'wait') return;
      if (read === undefined) throw new Error(`answer ${answers} is not complete: ${preview(rest)}`);
      if (request === undefined) judgeAnyAnswer(read.answer, secrets);
      else judgeAnswer(request, read.answer, secrets);
      answered.push(`raw ${kind} ${read.answer.status}`);
      isClosing = read.answer.closes;
      rest = read.rest;
    }
    if (whole !== undefined && answers < whole.length)
      throw new Error(`${answers} answers to ${whole.length} requests`);
  } catch (error) {
    faults.push({ index, fault: String(error), changes: kind, sent: preview(Buffer.concat(pieces), 600) });
  }
}

/**
 * Sends the request. At full depth, throws if the answer is slow, however often the request is sent again. The lateness
 * of timers is not counted: it says how slow the machine is.
 */
async function exchangeInTime(request: FuzzRequest, bytes: Buffer, client: WireClient): Promise<WireAnswer> {
  for (let attempt = 1; ; attempt += 1) {
    const startedMs = performance.now();
    const answer = await client.exchange(bytes, request.method);
    const durationMs = performance.now() - startedMs - heartbeat.lateSince(startedMs);
    slowestMs = Math.max(slowestMs, durationMs);
    if (depth === 'quick' || durationMs <= MAX_ANSWER_MS) return answer;
    if (attempt === MAX_ATTEMPTS) throw new Error(`the answer took ${Math.round(durationMs)} ms`);
  }
}

/** Sends the requests of the numbers from `first` up to but excluding `last`, from all clients at once. */
async function stretch(first: number, last: number): Promise<void> {
  await Promise.all(
    Array.from({ length: CLIENTS }, async (_, lane) => {
      const client = createWireClient(port);
      const known = createKnown();
      for (let index = first + lane; index < last && faults.length < MAX_FAULTS; index += CLIENTS) {
        await fuzz(index, client, known);
      }
      client.close();
    }),
  );
}

/** Throws unless the node commits, reads and is ready as before. */
async function expectWorking(round: number): Promise<void> {
  expect(node.running(), node.output().slice(-2_000)).toBe(true);
  await send('PUT', '/v1/documents/control', `{"round":${round}}`);
  expect(JSON.parse(await send('GET', '/v1/documents/control'))).toEqual({ round });
  expect((await fetch(`${node.url}/ready`)).status).toBe(200);
}

test(`${REQUESTS} requests made of the description, and spoiled, harm nothing`, async () => {
  await send('PUT', '/v1/state', '{"greeting":{"text":"hello"},"a/b":[1,2],"ü":null}');
  const start = await send('GET', backupPath);
  let freshBytes = 0;
  let mostBytes = 0;
  for (let first = 0; first < REQUESTS; first += STRETCH) {
    await stretch(first, Math.min(first + STRETCH, REQUESTS));
    expect(faults, seedLabel).toEqual([]);
    await expectWorking(first);
    const verdict = JSON.parse(await send('GET', '/v1/audit/verify'));
    expect(verdict, `${seedLabel}, before request ${first + STRETCH}`).toMatchObject({ ok: true });
    const bytes = await residentBytes();
    if (first === 0) freshBytes = bytes;
    mostBytes = Math.max(mostBytes, bytes);
    if (first + STRETCH < REQUESTS) await restore(start);
  }
  if (depth === 'full') report(mostBytes - freshBytes);
  if (depth === 'full') expect(operationsWithoutSuccess(), seedLabel).toEqual([]);
  const backup = await send('GET', backupPath);
  await verifyBackup(openText(backup), { schemaVersion: CURRENT_SCHEMA_VERSION });
  await restore(backup);
  await expectWorking(REQUESTS);
  expect(mostBytes - freshBytes).toBeLessThan(MAX_GROWTH_BYTES);
  expectCleanLog(node.output());
}, 900_000);

function report(growthBytes: number): void {
  const lines = Object.entries(tally(answered)).toSorted(([one], [other]) => one.localeCompare(other));
  process.stdout.write(lines.map(([what, count]) => `${String(count).padStart(6)} ${what}\n`).join(''));
  process.stdout.write(
    `${REQUESTS} requests, ${seedLabel}: slowest answer ${Math.round(slowestMs)} ms, ` +
      `memory grown by ${Math.round(growthBytes / MiB)} MiB\n`,
  );
}

/** Lists the operations of which no request succeeded: those are not tested. */
function operationsWithoutSuccess(): string[] {
  const succeeded = new Set(
    answered
      .map((line) => line.split(' '))
      .filter(([, , status = '']) => status.startsWith('2'))
      .map(([method, path]) => `${method} ${path}`),
  );
  return operations.map(({ method, path }) => `${method} ${path}`).filter((one) => !succeeded.has(one));
}

/** Throws if the log has an error or a token, or a line that is not JSON. */
function expectCleanLog(text: string): void {
  for (const secret of secrets) expect(text.includes(secret)).toBe(false);
  const lines = text.split('\n').filter(Boolean);
  // Node.js writes a warning as plain text.
  expect(lines.filter((line) => !line.startsWith('{')).slice(0, 5), seedLabel).toEqual([]);
  const levels = lines.filter(
    (line) => !(JSON.parse(line).level < 50) && !/^(?:trace|debug|info|warn)$/.test(JSON.parse(line).level),
  );
  expect(levels.slice(0, 5), seedLabel).toEqual([]);
}
