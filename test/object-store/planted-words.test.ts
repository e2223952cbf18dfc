import { readFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEphemeralKey } from '../../src/backup/stored/encryption.ts';
import type { ObjectStore } from '../../src/domain/object-store.ts';
import { createTestStore, storeKinds, type TestStore } from '../setup/object-store/object-store.ts';
import { packBackup } from '../setup/object-store/stored-backup.ts';

const { signal } = new AbortController();

/** A name, a value, an actor and a request id of the backup. The manifest must show none of them. */
const words = ['planted-name', 'planted-value', 'planted-actor', 'planted-request'];

describe.each(storeKinds)('a %s store', (kind) => {
  let raw: TestStore;
  let store: ObjectStore;
  let text: string;

  beforeAll(async () => {
    raw = await createTestStore(kind);
    store = raw.open();
    const source = new URL('../fixtures/backups/schema-5.json', import.meta.url);
    text = (await readFile(source, 'utf8')).replace(
      '"state":{',
      `"state":{\n"${words[0]}":{"secret":${JSON.stringify(words.slice(1))}},`,
    );
    expect(words.every((word) => text.includes(word))).toBe(true);
  });

  afterAll(async () => {
    await store?.close();
    await raw?.remove();
  });

  /** Returns everything that a thief of the store finds: names, bytes, and what can be unpacked. */
  async function loot(): Promise<string> {
    const found: string[] = [];
    for (const name of await raw.names()) {
      const bytes = await raw.read(name);
      const isGzip = bytes.subarray(0, 2).equals(Buffer.from([0x1f, 0x8b]));
      found.push(name, bytes.toString('latin1'), isGzip ? gunzipSync(bytes).toString('latin1') : '');
      await store.delete(name, signal);
    }
    return found.join('\n');
  }

  async function putAll(recipients: string[]): Promise<void> {
    const { name, content, manifestName, manifestText } = await packBackup(text, recipients);
    await store.put(name, Readable.from([content]), signal);
    await store.put(manifestName, Readable.from([Buffer.from(manifestText)]), signal);
  }

  test('has nothing of the content of an encrypted backup without its key', async () => {
    await putAll([]);
    const plain = await loot();
    expect(words.filter((word) => plain.includes(word))).toEqual(words);
    const { recipient, identity } = await createEphemeralKey();
    await putAll([recipient]);
    const encrypted = await loot();
    expect(encrypted).toContain(recipient);
    expect(words.filter((word) => encrypted.includes(word))).toEqual([]);
    expect(encrypted).not.toContain(JSON.parse(text).manifest.state_sha256);
    expect(encrypted).not.toContain(identity);
  });
});
