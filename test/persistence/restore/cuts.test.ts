import { request as httpRequest } from 'node:http';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { rounds, seededRandom } from '../../setup/depth.ts';
import { asAdmin, createTestServer, json, type TestServer } from '../../setup/node/http.ts';
import { openNodes, outcomeOf, type TestNodes } from '../../setup/node/nodes.ts';
import { openTestStore, type TestStore, verify } from '../../setup/node/store.ts';
import { digestTables } from '../../setup/server/digest.ts';
import { oddDocument } from '../../setup/values/odd-documents.ts';

const RESTORE = '/v1/admin/persistence/restore';
const CUTS = rounds({ quick: 20, full: 500 });
/** Number of consecutive cuts at the beginning and at the end of a body. */
const FIRST = rounds({ quick: 8, full: 20 });
const LAST = rounds({ quick: 12, full: 60 });
const BREAKS = rounds({ quick: 5, full: 20 });
const POLL = { interval: 2, timeout: 10_000 };

let nodes: TestNodes;
let server: TestServer;
let backup: string;
let before: string;

beforeAll(async () => {
  nodes = await openNodes();
  const { node } = nodes;
  await node.put('odd', { ...JSON.parse(oddDocument(1)), filler: '' });
  for (let index = 0; index < 4; index += 1)
    await node.put(`document ü/${index}`, { index, text: '😀"\\\n', n: [0.5, 1e21] });
  await node.commit({ idempotencyKey: 'key', changes: [{ op: 'delete', name: 'document ü/3' }] });
  backup = await node.backup();
  await node.put('later', 'not in the backup');
  before = await digestTables(nodes.database.pool);

  server = await createTestServer();
  for (const name of ['document ü/1', 'live']) {
    await server.request('PUT', `/v1/documents/${encodeURIComponent(name)}`, { body: '{"live":true}' });
  }
});
afterAll(async () => {
  await server?.close();
  await nodes.close();
});

/** The request with its options before or after the backup, so that cuts remove different members. */
const bodies: [string, () => Buffer][] = [
  ['first', () => Buffer.from(`{"confirm":"restore","truncate_audit":true,"backup":${backup}}`)],
  ['last', () => Buffer.from(`{"backup":${backup},"truncate_audit":true,"confirm":"restore"}`)],
];

/**
 * Returns `count` lengths of a part of the body: the shortest in a row, the longest in a row, and others spread evenly.
 */
function cutsOf(name: string, length: number, count: number): number[] {
  const cuts = new Set<number>();
  for (let cut = 1; cut <= FIRST; cut += 1) cuts.add(cut);
  for (let cut = length - LAST; cut < length; cut += 1) cuts.add(cut);
  return [...cuts, ...spread(name, length, count - cuts.size, cuts)];
}

/** Steps by the golden ratio from a random place, which spreads any number of lengths evenly. */
function spread(name: string, length: number, count: number, besides = new Set<number>()): number[] {
  const cuts = new Set<number>();
  const from = seededRandom(`cuts of ${name}`).fraction();
  for (let step = 1; cuts.size < count; step += 1) {
    const cut = 1 + Math.floor(((from + step * 0.618034) % 1) * (length - 1));
    if (!besides.has(cut)) cuts.add(cut);
  }
  return [...cuts];
}

it.each(bodies)(
  `a body with its options %s, cut at ${CUTS} offsets, is refused every time and changes nothing`,
  async (where, bodyOf) => {
    const body = bodyOf();
    const cuts = cutsOf(where, body.length, CUTS);
    expect(cuts).toHaveLength(CUTS);
    for (const [index, cut] of cuts.entries()) {
      const outcome = await outcomeOf(nodes.node.restoreBody(body.subarray(0, cut)));
      expect([cut, outcome]).toEqual([cut, 'backup_incomplete']);
      if (index % 10 === 0) expect(await digestTables(nodes.database.pool)).toBe(before);
    }
    expect(await digestTables(nodes.database.pool)).toBe(before);
  },
  120_000,
);

it(`a compressed body, cut at ${CUTS} offsets, is refused every time and changes nothing`, async () => {
  const unchanged = await digestTables(server.database.pool);
  for (const [where, bodyOf] of bodies) {
    const packed = gzipSync(bodyOf());
    const cuts = cutsOf(`${where}, compressed`, packed.length, CUTS / 2);
    for (const [index, cut] of cuts.entries()) {
      const headers = { ...asAdmin, ...json, 'content-encoding': 'gzip' };
      const answer = await server.request('POST', RESTORE, { headers, body: packed.subarray(0, cut) });
      expect([cut, answer.status, answer.json().code]).toEqual([cut, 422, 'backup_incomplete']);
      if (index % 10 === 0) expect(await digestTables(server.database.pool)).toBe(unchanged);
    }
  }
  expect(await digestTables(server.database.pool)).toBe(unchanged);
}, 120_000);

it('a compressed body with anything behind it is refused and changes nothing', async () => {
  const unchanged = await digestTables(server.database.pool);
  const packed = gzipSync(bodies[0]?.[1]() ?? '');
  // gunzip treats zeros as padding and ignores everything after them.
  for (const behind of [
    Buffer.from('xyz'),
    Buffer.alloc(1),
    Buffer.alloc(100_000),
    Buffer.concat([Buffer.alloc(9), packed]),
  ]) {
    const headers = { ...asAdmin, ...json, 'content-encoding': 'gzip' };
    const answer = await server.request('POST', RESTORE, { headers, body: Buffer.concat([packed, behind]) });
    expect([answer.status, answer.json().code]).toEqual([400, 'malformed_request']);
    expect(await digestTables(server.database.pool)).toBe(unchanged);
  }
});

it('a body whose sender disconnects before its announced length is refused, and leaves nothing behind', async () => {
  const { port } = await server.listen();
  const unchanged = await digestTables(server.database.pool);
  const breakAll = async (body: Buffer, cuts: number[]): Promise<void> => {
    for (const cut of cuts) {
      await breakOff(port, body, cut);
      await expect.poll(() => server.store.observe().operations, POLL).toEqual([]);
      expect(await digestTables(server.database.pool)).toBe(unchanged);
    }
  };
  const atTheEnd = Math.ceil(BREAKS / 2);
  for (const [where, bodyOf] of bodies) {
    const body = bodyOf();
    const last = Array.from({ length: atTheEnd }, (_, index) => body.length - 1 - index);
    await breakAll(body, [...last, ...spread(`breaks, ${where}`, body.length - 60, BREAKS - atTheEnd)]);
    // Not the last 60 of compressed data, where a cut may leave only the end of the gzip data unsent.
    const packed = gzipSync(body);
    await breakAll(packed, spread(`breaks, ${where}, compressed`, packed.length - 60, BREAKS));
  }
}, 120_000);

/** Announces the whole body, sends `cut` bytes and disconnects once the node has begun to read. */
async function breakOff(port: number, body: Buffer, cut: number): Promise<void> {
  const encoding = body[0] === 0x1f ? { 'content-encoding': 'gzip' } : {};
  const headers = { ...asAdmin, ...json, ...encoding, 'content-length': body.length };
  const request = httpRequest({ host: '127.0.0.1', port, method: 'POST', path: RESTORE, headers, agent: false });
  request.on('error', () => undefined);
  request.write(body.subarray(0, cut));
  await expect.poll(() => server.store.observe().operations.length, POLL).toBe(1);
  const closed = new Promise((resolve) => request.once('close', resolve));
  request.destroy();
  await closed;
}

it('the same bodies are accepted when they are whole', async () => {
  const fresh: TestStore = await openTestStore(nodes.database.url, { stateKey: 'fresh' });
  try {
    for (const [, bodyOf] of bodies) {
      const body = bodyOf().toString('utf8').replace('{', '{"accept_state_key":"default",');
      expect(await fresh.restoreBody(body)).toMatchObject({ verified: true });
      expect(await fresh.state()).toEqual(JSON.parse(backup).state);
      expect(await verify(fresh)).toMatchObject({ ok: true });
    }
  } finally {
    await fresh.close();
  }
});
