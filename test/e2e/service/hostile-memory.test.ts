import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { StatusReport } from '../../../src/domain/status.ts';
import { depth, rounds, sampleByKind } from '../../setup/depth.ts';
import { bodyChunk, type HostileClient, openHostile, requestHead, unfinishedBomb } from '../../setup/faults/hostile.ts';
import { type Program, startProgram, waitUntil, waitUntilReady } from '../../setup/node/program.ts';
import { createTestDatabase, type TestDatabase } from '../../setup/server/database.ts';

const MiB = 2 ** 20;
const ADMIN_TOKEN = 'admin-token-of-the-hostile-test';
const auth = { 'x-loom-admin-token': ADMIN_TOKEN };
const json = { ...auth, 'content-type': 'application/json' };

/** The figures: connections of one kind, and the growth of the process that they may cause. */
const CONNECTIONS = 100;
const MAX_GROWTH_BYTES = 256 * MiB;

let database: TestDatabase;
let node: Program;
let port: number;
/** Memory of the node before the first request. */
let freshBytes: number;
beforeAll(async () => {
  database = await createTestDatabase();
  await startNode();
  // One change of the largest size: its entry has 31 MiB. Then a page of further large entries.
  const large = JSON.stringify('x'.repeat(7.75 * MiB));
  await send('PUT', '/v1/state', `{"a":${large},"b":${large},"c":${large},"d":${large}}`);
  for (const name of ['a', 'b', 'c']) await send('PUT', `/v1/documents/${name}`, JSON.stringify('y'.repeat(7 * MiB)));
  await node.stop();
});
beforeEach(startNode);
afterEach(() => node.stop());
afterAll(() => database.drop());

/** Starts a fresh node for each attack: the bound is for the attack alone. */
async function startNode(): Promise<void> {
  node = await startProgram({
    env: {
      LOOM_PG_URL: database.url,
      LOOM_ADMIN_TOKEN: ADMIN_TOKEN,
      NODE_OPTIONS: '--max-old-space-size=256',
    },
  });
  port = Number(new URL(node.url).port);
  await waitUntilReady(node.url);
  freshBytes = await residentBytes();
}

async function send(method: string, path: string, body: string): Promise<void> {
  const answer = await fetch(`${node.url}${path}`, { method, headers: json, body });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
}

async function status(): Promise<StatusReport> {
  const answer = await fetch(`${node.url}/v1/admin/status`, { headers: auth });
  return (await answer.json()) as StatusReport;
}

/** Returns the memory of the process, from the kernel if it tells, since status itself uses memory. */
async function residentBytes(): Promise<number> {
  const text = await readFile(`/proc/${node.pid}/status`, 'utf8').catch(() => '');
  const kibibytes = /^VmRSS:\s+(\d+) kB/m.exec(text)?.[1];
  return kibibytes === undefined ? (await status()).memory.rss_bytes : Number(kibibytes) * 1024;
}

const stateText = (): string => {
  const document = JSON.stringify('x'.repeat(7.75 * MiB));
  return `{"a":${document},"b":${document},"c":${document},"d":"`;
};
const chunked = { ...json, 'transfer-encoding': 'chunked' };
const gzip = { ...chunked, 'content-encoding': 'gzip' };
const get = (path: string, headers: Record<string, string> = {}): string =>
  requestHead('GET', path, { ...auth, ...headers });
const upload = (path: string, headers: Record<string, string>, chunk: Buffer, method = 'PUT'): Buffer =>
  Buffer.concat([Buffer.from(requestHead(method, path, headers)), bodyChunk(chunk)]);

/** Each returns what one hostile client sends before it falls silent. */
const attacks: Record<string, () => string | Buffer> = {
  'unfinished gzip documents': () => upload('/v1/documents/bomb', gzip, unfinishedBomb(7.9 * MiB)),
  'unfinished gzip states': () => upload('/v1/state', gzip, unfinishedBomb(7.7 * MiB, stateText()), 'PATCH'),
  'unfinished gzip restores': () =>
    upload(
      '/v1/admin/persistence/restore',
      gzip,
      unfinishedBomb(30 * MiB, '{"confirm":"restore","backup":{"audit_entries":[{"x":"'),
      'POST',
    ),
  'documents with very many names': () =>
    upload(
      '/v1/documents/names',
      gzip,
      unfinishedBomb(1, `{${Array.from({ length: 100_000 }, (_, n) => `"${n}":1`)},"`),
    ),
  'unfinished uploads': () => upload('/v1/documents/slow', chunked, Buffer.from(`"${'z'.repeat(4 * MiB)}`)),
  'unread documents': () => get('/v1/documents/a'),
  'unread states': () => get('/v1/state'),
  'unread pages of the trail': () => get('/v1/audit'),
  'unread trails': () => get('/v1/audit', { accept: 'application/x-ndjson' }),
  'unread backups': () => get('/v1/admin/persistence/backup'),
  'unread backups in gzip': () => get('/v1/admin/persistence/backup', { 'accept-encoding': 'gzip' }),
  'pipelined reads': () => get('/v1/documents/b').repeat(10),
  // One read of a socket has at most 64 KiB.
  'pipelined floods': () => requestHead('GET', '/live', {}).repeat(4_000),
  'pipelined floods behind a state': () => get('/v1/state') + requestHead('GET', '/live', {}).repeat(4_000),
};

/** At quick depth, one attack by bodies and one by answers. */
const chosen = sampleByKind(
  Object.keys(attacks),
  (name) => (/^un(?:read)|^pipelined/.test(name) ? 'answers' : 'bodies'),
  {
    purpose: 'hostile memory',
  },
);

describe(`a node of 256 MB of heap, under ${CONNECTIONS} hostile connections`, () => {
  test.each(chosen)('lives, answers, and frees what it held: %s', async (name) => {
    const bytes = attacks[name]?.() ?? '';
    let peak = 0;
    const clients: HostileClient[] = [];
    for (let index = 0; index < CONNECTIONS; index += 1) clients.push(openHostile({ port, bytes, reads: false }));
    for (let look = 0; look < rounds({ quick: 20, full: 100 }); look += 1) {
      peak = Math.max(peak, await residentBytes());
      await sleep(100);
    }
    expect((await fetch(`${node.url}/ready`)).status).toBe(200);
    await send('PUT', '/v1/documents/other', '{"lives":true}');
    for (const { socket } of clients) socket.destroy();
    if (depth === 'full') process.stdout.write(`${name}: grown by ${Math.round((peak - freshBytes) / MiB)} MiB\n`);
    expect(peak - freshBytes).toBeLessThan(MAX_GROWTH_BYTES);
    await waitUntil(
      async () => (await status()).memory,
      ({ bodies_bytes, answers_bytes }) => bodies_bytes === 0 && answers_bytes === 0,
    );
    expect(node.running()).toBe(true);
  });
});
