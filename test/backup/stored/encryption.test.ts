import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  createEphemeralKey,
  decryptStream,
  type EphemeralKey,
  encryptStream,
  findRecipientFault,
  parseIdentities,
} from '../../../src/backup/stored/encryption.ts';
import { LoomError } from '../../../src/errors.ts';
import { limits } from '../../../src/limits.ts';
import { rounds, seededRandom } from '../../setup/depth.ts';
import { hasAge, runAge } from '../../setup/object-store/age.ts';

const random = seededRandom('encryption');
const content = Buffer.from(Array.from({ length: 200_000 }, () => random.integer(0, 255)));

let own: EphemeralKey;
let other: EphemeralKey;
let encrypted: Buffer;

const stream = (bytes: Uint8Array, piece = 10_000): Readable =>
  Readable.from(
    (function* () {
      for (let from = 0; from < bytes.length; from += piece) yield bytes.subarray(from, from + piece);
    })(),
    { objectMode: false },
  );

const decrypt = async (bytes: Uint8Array, identities: string[]): Promise<Buffer> =>
  buffer(await decryptStream(stream(bytes), identities));

beforeAll(async () => {
  [own, other] = await Promise.all([createEphemeralKey(), createEphemeralKey()]);
  encrypted = await buffer(await encryptStream(stream(content), [other.recipient, own.recipient]));
});

test('each recipient decrypts what was encrypted for both', async () => {
  expect(encrypted.subarray(0, 22).toString()).toBe('age-encryption.org/v1\n');
  expect((await decrypt(encrypted, [own.identity])).equals(content)).toBe(true);
  const third = await createEphemeralKey();
  expect((await decrypt(encrypted, [third.identity, other.identity])).equals(content)).toBe(true);
});

test('encrypts contents of every size around its chunks', async () => {
  for (const bytes of [0, 1, 65_535, 65_536, 65_537, 131_072]) {
    const part = content.subarray(0, bytes);
    const text = await buffer(await encryptStream(stream(part), [own.recipient]));
    expect((await decrypt(text, [own.identity])).equals(part)).toBe(true);
  }
});

describe('the program age', () => {
  let directory: string;

  beforeAll(async () => {
    directory = await mkdtemp(join(tmpdir(), 'loom-test-age-'));
    await writeFile(join(directory, 'key'), `# made by a test\n${own.identity}\n`, { mode: 0o600 });
  });

  afterAll(() => rm(directory, { recursive: true, force: true }));

  test('decrypts what LOOM encrypts, and LOOM decrypts what it encrypts', async () => {
    if (!hasAge) return;
    expect(runAge(['-d', '-i', join(directory, 'key')], encrypted).equals(content)).toBe(true);
    const byAge = runAge(['-e', '-r', other.recipient, '-r', own.recipient], content);
    expect((await decrypt(byAge, [own.identity])).equals(content)).toBe(true);
  });
});

describe('damage', () => {
  test('without a fitting key', async () => {
    const third = await createEphemeralKey();
    for (const identities of [[], [third.identity]])
      await expect(decrypt(encrypted, identities)).rejects.toMatchObject({ code: 'identity_missing' });
  });

  test('a changed bit anywhere, or a cut anywhere', async () => {
    const header = encrypted.indexOf('\n---') + 60;
    for (let round = 0; round < rounds({ quick: 8, full: 400 }); round += 1) {
      const at = round % 2 === 0 ? random.integer(0, header) : random.integer(0, encrypted.length - 1);
      const changed = Buffer.from(encrypted);
      changed.writeUInt8(changed.readUInt8(at) ^ (1 << random.integer(0, 7)), at);
      // A change of a stanza looks like one for another key.
      const code = expect.stringMatching(at < header ? /^stored_backup_damaged$|^identity_missing$/ : /_damaged$/);
      await expect(decrypt(changed, [own.identity]), `bit of byte ${at}`).rejects.toMatchObject({ code });
      await expect(decrypt(encrypted.subarray(0, at), [own.identity]), `cut at ${at}`).rejects.toMatchObject({
        code: 'stored_backup_damaged',
      });
    }
  });

  test('nothing of a damaged chunk is passed on', async () => {
    const changed = Buffer.from(encrypted);
    changed.writeUInt8(changed.readUInt8(changed.length - 1) ^ 1, changed.length - 1);
    const found: Buffer[] = [];
    const plain = await decryptStream(stream(changed), [own.identity]);
    await expect(
      (async () => {
        for await (const chunk of plain) found.push(chunk as Buffer);
      })(),
    ).rejects.toMatchObject({ code: 'stored_backup_damaged' });
    const passed = Buffer.concat(found);
    expect(passed.equals(content.subarray(0, passed.length))).toBe(true);
    expect(passed.length).toBeLessThan(content.length);
  });

  test('something that is not encrypted', async () => {
    await expect(decrypt(content, [own.identity])).rejects.toMatchObject({ code: 'stored_backup_damaged' });
    const endless = Buffer.concat([Buffer.from('age-encryption.org/v1\n-> '), Buffer.alloc(2_000_000, 'a')]);
    await expect(decrypt(endless, [own.identity])).rejects.toMatchObject({
      code: 'stored_backup_damaged',
      message: expect.stringContaining('header does not end'),
    });
  });
});

describe('streaming', () => {
  test('the error of the content passes unchanged, in both directions', async () => {
    const fault = new LoomError('store_unreachable', 'The store is away.');
    const failing = (bytes: Uint8Array): Readable =>
      Readable.from(
        (async function* () {
          yield bytes;
          throw fault;
        })(),
      );
    const encrypting = async () => buffer(await encryptStream(failing(content), [own.recipient]));
    await expect(encrypting()).rejects.toBe(fault);
    for (const bytes of [50, 100_000]) {
      const decrypting = async () => buffer(await decryptStream(failing(encrypted.subarray(0, bytes)), [own.identity]));
      await expect(decrypting()).rejects.toBe(fault);
    }
  });

  test('reads no further than the reader asks, and a destroyed result destroys the content', async () => {
    let made = 0;
    const endless = new Readable({
      read: () => {
        made += 1;
        endless.push(content);
      },
    });
    const result = await encryptStream(endless, [own.recipient]);
    for (let turn = 0; turn < 20; turn += 1) await new Promise(setImmediate);
    expect(made).toBeLessThan(10);
    result.destroy();
    await new Promise((resolve) => endless.once('close', resolve));
    expect(endless.destroyed).toBe(true);
  });

  test('a destroyed result ends a content that stands still', async () => {
    const standing = new Readable({ read: () => undefined });
    const result = await encryptStream(standing, [own.recipient]);
    result.resume();
    await new Promise(setImmediate);
    result.destroy();
    expect(standing.destroyed).toBe(true);
  });
});

describe('keys', () => {
  test('recipients', async () => {
    expect(await findRecipientFault([own.recipient, other.recipient])).toBeUndefined();
    const typo = own.recipient.replace(/.$/, (last) => (last === 'q' ? 'p' : 'q'));
    expect(await findRecipientFault([other.recipient, typo])).toContain(`recipient 2 of 2, "${typo}"`);
    expect(await findRecipientFault([''])).toContain('recipient 1 of 1');
    const many = Array.from({ length: limits.maxRecipients + 1 }, () => own.recipient);
    expect(await findRecipientFault(many)).toContain(`at most ${limits.maxRecipients}`);
  });

  test('never encrypts for nobody, or for a wrong recipient', async () => {
    const unread = stream(content);
    await expect(encryptStream(unread, [])).rejects.toThrow('no recipient');
    expect(unread.destroyed).toBe(true);
    await expect(encryptStream(stream(content), ['age1nobody'])).rejects.toThrow();
  });

  test('identity files', async () => {
    const text = `# created: today\r\n# public key: ${own.recipient}\r\n\n${own.identity}\r\n  ${other.identity}\n`;
    expect(await parseIdentities(text)).toEqual([own.identity, other.identity]);
  });

  test.each([
    ['an empty file', '# nothing\n', 'no secret key'],
    ['a public key', `# a\nage1abc\n`, 'line 2'],
    ['a damaged key', 'AGE-SECRET-KEY-1QQQ\n', 'line 1'],
    ['an encrypted file', '-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n', 'passphrase'],
    ['a long file', '#'.repeat(limits.maxIdentityFileBytes + 1), 'bytes'],
  ])('%s is no identity file', async (_what, text, found) => {
    const error = await parseIdentities(text).catch((caught: unknown) => caught as LoomError);
    expect(error).toMatchObject({ code: 'identity_missing', message: expect.stringContaining(found) });
    expect(String(error)).not.toContain('QQQ');
  });
});
