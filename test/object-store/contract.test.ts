import { createHash } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { ObjectStore, StoredObject } from '../../src/domain/object-store.ts';
import { createTestStore, storeKinds, type TestStore } from '../setup/object-store/object-store.ts';

const { signal } = new AbortController();
const HOUR_MS = 3_600_000;

describe.each(storeKinds)('a %s store', (kind) => {
  let raw: TestStore;
  let store: ObjectStore;

  beforeAll(async () => {
    raw = await createTestStore(kind);
    store = raw.open();
  });

  afterAll(async () => {
    await store?.close();
    await raw?.remove();
  });

  const put = (name: string, content: string | Uint8Array) =>
    store.put(name, Readable.from([Buffer.from(content)]), signal);
  const get = async (name: string) => buffer(await store.get(name, signal));

  async function listed(prefix: string): Promise<StoredObject[]> {
    const found: StoredObject[] = [];
    for await (const one of store.list(prefix, signal)) found.push(one);
    return found.sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  test('check leaves nothing behind', async () => {
    await store.check(signal);
    expect(await raw.names()).toEqual([]);
  });

  test('returns what was put, with its size and digest', async () => {
    const content = Buffer.from('some content\n'.repeat(1000));
    const name = 'loom-a%2Fb%25~.1-x.json.gz';
    expect(await put(name, content)).toEqual({
      bytes: content.length,
      sha256: createHash('sha256').update(content).digest('hex'),
    });
    expect((await get(name)).equals(content)).toBe(true);
    expect(await raw.names()).toEqual([name]);
    const head = await store.head(name, signal);
    expect(head).toEqual({ name, bytes: content.length, modifiedAt: expect.any(Date) });
    expect(Math.abs((head?.modifiedAt.getTime() ?? 0) - Date.now())).toBeLessThan(HOUR_MS);
    await store.delete(name, signal);
    expect(await raw.names()).toEqual([]);
  });

  test('puts an empty object', async () => {
    expect((await put('empty', '')).bytes).toBe(0);
    expect((await get('empty')).length).toBe(0);
    await store.delete('empty', signal);
  });

  test('a missing object', async () => {
    await expect(store.get('missing', signal)).rejects.toMatchObject({ code: 'stored_backup_missing' });
    expect(await store.head('missing', signal)).toBeUndefined();
    await store.delete('missing', signal);
  });

  test('replaces no object', async () => {
    await put('taken', 'first');
    await expect(put('taken', 'second')).rejects.toMatchObject({
      code: 'store_failed',
      message: expect.stringContaining('"taken"'),
    });
    expect((await get('taken')).toString()).toBe('first');
    expect(await raw.names()).toEqual(['taken']);
    await store.delete('taken', signal);
  });

  test('lists by prefix', async () => {
    for (const name of ['loom-a-1', 'loom-a-2', 'loom-ab-1', 'other']) await put(name, name);
    expect((await listed('loom-a-')).map(({ name, bytes }) => [name, bytes])).toEqual([
      ['loom-a-1', 8],
      ['loom-a-2', 8],
    ]);
    expect((await listed('')).map(({ name }) => name)).toEqual(['loom-a-1', 'loom-a-2', 'loom-ab-1', 'other']);
    for (const { name } of await listed('')) await store.delete(name, signal);
    expect(await listed('')).toEqual([]);
  });

  test('keeps nothing of a content that fails, and passes its error on', async () => {
    const fault = new Error('the database went away');
    const content = Readable.from(
      (async function* () {
        yield Buffer.from('a part');
        throw fault;
      })(),
    );
    await expect(store.put('failing', content, signal)).rejects.toBe(fault);
    expect(await raw.names()).toEqual([]);
  });

  test('an abort ends a put whose content stands still, and keeps nothing', async () => {
    const controller = new AbortController();
    const content = new Readable({ read: () => undefined });
    content.push('a part');
    const writing = store.put('standing', content, controller.signal);
    const reason = new Error('the lease is lost');
    setImmediate(() => controller.abort(reason));
    await expect(writing).rejects.toBe(reason);
    expect(content.destroyed).toBe(true);
    expect(await raw.names()).toEqual([]);
  });

  test('an abort ends a get', async () => {
    await put('long', Buffer.alloc(1_000_000));
    const controller = new AbortController();
    const stream = await store.get('long', controller.signal);
    controller.abort();
    await expect(buffer(stream)).rejects.toMatchObject({ name: 'AbortError' });
    await store.delete('long', signal);
  });

  test('sweeps unfinished writes of its prefix once they are old', async () => {
    await raw.abandon('loom-a-1.json.gz');
    await raw.abandon('loom-ab-1.json.gz');
    await put('loom-a-0.json.gz', 'complete');
    expect((await listed('')).map(({ name }) => name)).toEqual(['loom-a-0.json.gz']);
    const sweep = (prefix: string, now: Date) => store.sweep(prefix, { olderThanMs: HOUR_MS, now }, signal);
    expect(await sweep('loom-a-', new Date())).toBe(0);
    const later = new Date(Date.now() + 2 * HOUR_MS);
    expect(await sweep('loom-a-', later)).toBe(1);
    expect(await raw.names()).toHaveLength(2);
    expect(await sweep('loom-ab-', later)).toBe(1);
    expect(await raw.names()).toEqual(['loom-a-0.json.gz']);
    await store.delete('loom-a-0.json.gz', signal);
  });

  test.each(['../a', '/a', 'a/b', '.a', '', 'a\0b', 'a\\b', 'a'.repeat(221)])('refuses the name %j', async (name) => {
    await expect(put(name, 'a')).rejects.toMatchObject({ code: 'store_refused' });
    await expect(store.get(name, signal)).rejects.toMatchObject({ code: 'store_refused' });
    await expect(store.head(name, signal)).rejects.toMatchObject({ code: 'store_refused' });
    await expect(store.delete(name, signal)).rejects.toMatchObject({ code: 'store_refused' });
  });
});
