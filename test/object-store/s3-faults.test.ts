import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ObjectStore } from '../../src/domain/object-store.ts';
import { limits } from '../../src/limits.ts';
import { openObjectStore } from '../../src/object-store/object-store.ts';
import { rounds, sampleByKind } from '../setup/depth.ts';
import { type ProxyFault, proxyFaults } from '../setup/object-store/fault-proxy.ts';
import { createS3TestStore, type S3TestStore } from '../setup/object-store/object-store.ts';

const { signal } = new AbortController();
const HOUR_MS = 3_600_000;
let raw: S3TestStore;
let store: ObjectStore;
/** Has short bounds. Only verbs that must fail use it: on a slow machine, its requests may time out without a fault. */
let hasty: ObjectStore;

beforeAll(async () => {
  raw = await createS3TestStore();
  store = raw.open();
  hasty = raw.open({ idleTimeoutMs: 300, requestTimeoutMs: 600, maxAttempts: 1 });
  await store.check(signal);
});

beforeEach(() => raw.proxy.inject(undefined));

afterAll(async () => {
  await Promise.all([store?.close(), hasty?.close()]);
  await raw?.remove();
});

const small = Buffer.from('content');
/** Two parts of an upload. */
const large = randomBytes(9 * 2 ** 20);

const put = (into: ObjectStore, name: string, content: Uint8Array) => into.put(name, Readable.from([content]), signal);

async function list(from: ObjectStore): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of from.list('', signal)) found.push(name);
  return found;
}

const codes: Record<ProxyFault, string> = {
  refused: 'store_refused',
  skewed: 'store_refused',
  failed: 'store_failed',
  full: 'store_full',
  'error-inside': 'store_failed',
  'lost-answer': 'store_unreachable',
  reset: 'store_unreachable',
  slow: 'store_unreachable',
  hang: 'store_unreachable',
};

const verbs: { verb: string; call: (store: ObjectStore) => Promise<unknown> }[] = [
  { verb: 'check', call: (from) => from.check(signal) },
  { verb: 'put', call: (from) => put(from, 'new', small) },
  { verb: 'get', call: async (from) => buffer(await from.get('kept', signal)) },
  { verb: 'head', call: (from) => from.head('kept', signal) },
  { verb: 'list', call: list },
  { verb: 'delete', call: (from) => from.delete('kept', signal) },
  { verb: 'sweep', call: (from) => from.sweep('', { olderThanMs: 0, now: new Date() }, signal) },
];

const cases = verbs
  .flatMap(({ verb, call }) => proxyFaults.map((fault) => ({ verb, call, fault })))
  // The answers to HEAD and DELETE have no body to drip or to cut. Only its digest shows that a body is another one.
  .filter(({ verb, fault }) => !(['head', 'delete'].includes(verb) && ['slow', 'reset'].includes(fault)))
  .filter(({ verb, fault }) => !(['get', 'sweep'].includes(verb) && fault === 'error-inside'))
  .filter(({ verb, fault }) => !(['put', 'check', 'list', 'sweep'].includes(verb) && fault === 'slow'));

describe('each verb says what is wrong', () => {
  beforeEach(() => raw.write('kept', randomBytes(2_000)));

  test.each(sampleByKind(cases, ({ fault }) => fault, { purpose: 's3 faults' }))(
    '$verb: $fault',
    async ({ call, fault }) => {
      raw.proxy.inject({ fault });
      const error = await call(hasty).then(
        () => undefined,
        (caught: unknown) => caught as Error,
      );
      raw.proxy.inject(undefined);
      expect(error).toMatchObject({ code: codes[fault] });
      expect(String(error)).not.toContain(raw.options.credentials?.secretAccessKey);
      if (fault === 'skewed') expect(error?.message).toContain('clock');
      if (fault === 'failed') expect(error?.message).toMatch(/^Could not .* in the bucket ".*" at .* HTTP 500/);
      // The service may do what it is asked, and lose the answer.
      if (fault !== 'lost-answer') expect(await raw.names()).toEqual(['kept']);
      for (const name of await raw.names()) await raw.delete(name);
    },
  );
});

describe('a large put that fails leaves nothing', () => {
  const steps = {
    create: ({ url }: { url: string }) => url.includes('uploads'),
    part: ({ url }: { url: string }) => url.includes('partNumber=2'),
    complete: ({ method, url }: { method: string; url: string }) => method === 'POST' && url.includes('uploadId'),
  };
  const uploads = Object.entries(steps).flatMap(([step, when]) =>
    (['refused', 'failed', 'full', 'reset', 'hang'] as const)
      // Nobody learns the id of an upload whose first answer is lost. The sweep finds it.
      .filter((fault) => step !== 'create' || fault !== 'reset')
      .map((fault) => ({ step, when, fault })),
  );

  test.each(sampleByKind(uploads, () => 'upload', { purpose: 's3 uploads' }))(
    '$step: $fault',
    async ({ when, fault }) => {
      raw.proxy.inject({ fault, when });
      const once = raw.open({ maxAttempts: 1, ...(fault === 'hang' && { idleTimeoutMs: 1_500 }) });
      await expect(put(once, 'large', large)).rejects.toMatchObject({ code: codes[fault] });
      await once.close();
      raw.proxy.inject(undefined);
      expect(await raw.names()).toEqual([]);
    },
  );

  test('a put reads no further than its parts in flight, and the next one', async () => {
    raw.proxy.inject({ fault: 'hang', when: ({ url }) => url.includes('partNumber=') });
    const chunk = Buffer.alloc(2 ** 20);
    let made = 0;
    const endless = new Readable({
      highWaterMark: chunk.length,
      read: () => {
        made += chunk.length;
        setImmediate(() => endless.push(chunk));
      },
    });
    const controller = new AbortController();
    const before = raw.proxy.asked.length;
    const writing = store.put('endless', endless, controller.signal);
    const parts = () => raw.proxy.asked.slice(before).filter((line) => line.includes('partNumber='));
    while (parts().length < limits.maxS3PartsInFlight) await new Promise(setImmediate);
    for (let turn = 0; turn < 200; turn += 1) await new Promise(setImmediate);
    expect(made).toBeLessThan((limits.maxS3PartsInFlight + 2) * limits.s3PartBytes);
    controller.abort(new Error('enough'));
    await expect(writing).rejects.toThrow('enough');
    raw.proxy.inject(undefined);
    expect(await raw.names()).toEqual([]);
  });

  test('a service that takes the parts too slowly', async () => {
    raw.proxy.inject({ fault: 'slow', when: ({ url }) => url.includes('partNumber=') });
    const impatient = raw.open({ requestTimeoutMs: 1_500, maxAttempts: 1 });
    await expect(put(impatient, 'slow', large)).rejects.toMatchObject({ code: 'store_unreachable' });
    await impatient.close();
    raw.proxy.inject(undefined);
    expect(raw.proxy.asked.filter((line) => line.includes('Expect'))).toEqual([]);
    for (const name of await raw.names()) expect(name).toBe('slow');
    await store.sweep('', { olderThanMs: 0, now: new Date(Date.now() + HOUR_MS) }, signal);
  });

  test('an error inside of an answer 200 at its end', async () => {
    raw.proxy.inject({ fault: 'error-inside', when: steps.complete });
    await expect(put(store, 'large', large)).rejects.toMatchObject({ code: 'store_failed' });
    raw.proxy.inject(undefined);
    expect(await raw.names()).toEqual([]);
  });

  test('an abort', async () => {
    const controller = new AbortController();
    const reason = new Error('the lease is lost');
    raw.proxy.inject({ fault: 'hang', when: steps.part });
    const before = raw.proxy.asked.length;
    const writing = store.put('large', Readable.from([large]), controller.signal);
    while (!raw.proxy.asked.slice(before).some((line) => line.includes('partNumber=2')))
      await new Promise(setImmediate);
    controller.abort(reason);
    await expect(writing).rejects.toBe(reason);
    raw.proxy.inject(undefined);
    expect(await raw.names()).toEqual([]);
  });

  test('if the upload cannot be aborted either, the sweep ends it', async () => {
    raw.proxy.inject({ fault: 'failed', when: ({ method, url }) => steps.part({ url }) || method === 'DELETE' });
    await expect(put(store, 'large', large)).rejects.toMatchObject({ code: 'store_failed' });
    raw.proxy.inject(undefined);
    if (!raw.listsUploads) return;
    expect(await raw.names()).toEqual(['large']);
    const now = new Date(Date.now() + 2 * HOUR_MS);
    expect(await store.sweep('', { olderThanMs: HOUR_MS, now }, signal)).toBe(1);
    expect(await raw.names()).toEqual([]);
  });
});

describe('a put whose answer is lost', () => {
  test.each([
    ['small', small, ({ method, url }: { method: string; url: string }) => method === 'PUT' && url.includes('/lost')],
    [
      'large',
      large,
      ({ method, url }: { method: string; url: string }) => method === 'POST' && url.includes('uploadId'),
    ],
  ])('%s: the next attempt finds its own object', async (_size, content, when) => {
    raw.proxy.inject({ fault: 'lost-answer', when, times: 1 });
    expect((await put(store, 'lost', content)).bytes).toBe(content.length);
    expect((await raw.read('lost')).equals(content)).toBe(true);
    await store.delete('lost', signal);
  });

  test('an object of somebody else is never taken for its own', async () => {
    raw.proxy.inject({ fault: 'lost-answer', when: ({ method }) => method === 'PUT', times: 1 });
    const others = raw.open();
    await others.check(signal);
    await raw.write('taken', small);
    await expect(put(others, 'taken', Buffer.from('another'))).rejects.toMatchObject({ code: 'store_failed' });
    expect((await raw.read('taken')).equals(small)).toBe(true);
    await others.close();
    await raw.delete('taken');
  });
});

test('a service that stores less than it received', async () => {
  raw.proxy.inject({ fault: 'cut', when: ({ method }) => method === 'HEAD' });
  await expect(put(store, 'half', small)).rejects.toMatchObject({
    code: 'store_failed',
    message: expect.stringContaining(`has 3 of its ${small.length} bytes`),
  });
  raw.proxy.inject(undefined);
  expect(await raw.names()).toEqual([]);
});

test('an object that ends early', async () => {
  await raw.write('cut', randomBytes(500_000));
  raw.proxy.inject({ fault: 'reset', when: ({ method }) => method === 'GET' });
  const reading = async () => buffer(await store.get('cut', signal));
  await expect(reading()).rejects.toMatchObject({ code: 'store_unreachable' });
  raw.proxy.inject(undefined);
  await raw.delete('cut');
});

test('a reader may pause for longer than a service may', async () => {
  const content = randomBytes(rounds({ quick: 1_000, full: 20_000_000 }));
  const idleTimeoutMs = rounds({ quick: 10_000, full: 1_500 });
  await raw.write('paused', content);
  const patient = raw.open({ idleTimeoutMs });
  const stream = await patient.get('paused', signal);
  await new Promise((resolve) => setTimeout(resolve, rounds({ quick: 0, full: 2 * idleTimeoutMs })));
  expect((await buffer(stream)).equals(content)).toBe(true);
  await patient.close();
  await raw.delete('paused');
});

test('a clock that has just been set right fails no verb', async () => {
  const once = raw.open({ maxAttempts: 1 });
  for (const { call } of verbs) {
    await raw.write('kept', small);
    // The service refuses the time of the next request, whatever it is.
    raw.proxy.inject({ fault: 'skewed', times: 1 });
    await call(once);
    raw.proxy.inject(undefined);
    for (const name of await raw.names()) await raw.delete(name);
  }
  for (const method of ['HEAD', 'POST']) {
    raw.proxy.inject({ fault: 'skewed', times: 1, when: (request) => request.method === method });
    await put(once, 'large', large);
    raw.proxy.inject(undefined);
    await raw.delete('large');
  }
  await once.close();
});

describe('a key without a right', () => {
  test('to delete: the checks leave one object, and delete it once they may', async () => {
    raw.proxy.inject({ fault: 'refused', when: ({ method }) => method === 'DELETE' });
    const other = raw.open();
    for (let round = 0; round < 3; round += 1)
      await expect(other.check(signal)).rejects.toMatchObject({ code: 'store_refused' });
    expect(await raw.names()).toHaveLength(1);
    raw.proxy.inject(undefined);
    await other.check(signal);
    expect(await raw.names()).toEqual([]);
    await other.close();
  });

  test('to list unfinished uploads: the check says so', async () => {
    raw.proxy.inject({ fault: 'refused', when: ({ url }) => url.includes('uploads') });
    await expect(store.check(signal)).rejects.toMatchObject({
      code: 'store_refused',
      message: expect.stringContaining('list unfinished uploads'),
    });
    raw.proxy.inject(undefined);
    expect(await raw.names()).toEqual([]);
  });
});

describe('a wrong setting', () => {
  const open = (members: object): ObjectStore => openObjectStore({ ...raw.options, ...members });

  test.each([
    ['a bucket that does not exist', { bucket: 'missing' }, 'store_unreachable', '"missing"'],
    ['a port without a service', { endpoint: 'http://127.0.0.1:9' }, 'store_unreachable', '127.0.0.1:9'],
    [
      'a wrong key',
      { credentials: { accessKeyId: 'wrong-key', secretAccessKey: 'wrong-secret-wrong' } },
      'store_refused',
      'secret key',
    ],
  ])('%s', async (_what, members, code, text) => {
    const wrong = open(members);
    const error = await wrong.check(signal).catch((caught: unknown) => caught as Error);
    expect(error).toMatchObject({ code, message: expect.stringContaining(text) });
    expect(String(error)).not.toContain('wrong-secret-wrong');
    if (code === 'store_unreachable') await expect(wrong.head('a', signal)).rejects.toMatchObject({ code });
    await wrong.close();
  });
});
