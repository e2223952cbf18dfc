import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { createEphemeralKey, type EphemeralKey } from '../../../src/backup/stored/encryption.ts';
import { inspect } from '../../../src/cli/inspect.ts';
import { verify } from '../../../src/cli/verify.ts';
import { runCommand } from '../../setup/cli/command.ts';
import { rounds } from '../../setup/depth.ts';
import { hasAge, runAge } from '../../setup/object-store/age.ts';
import { packBackup, type StoredFiles } from '../../setup/object-store/stored-backup.ts';

const source = fileURLToPath(new URL('../../fixtures/backups/schema-5.json', import.meta.url));
let directory: string;
let text: string;
let key: EphemeralKey;
let identity: string;
let plain: StoredFiles;
let encrypted: StoredFiles;

beforeAll(async () => {
  text = await readFile(source, 'utf8');
  key = await createEphemeralKey();
  plain = await packBackup(text);
  const node = await createEphemeralKey();
  encrypted = await packBackup(text, [key.recipient, node.recipient]);
});

beforeEach(async () => {
  if (directory !== undefined) await rm(directory, { recursive: true });
  directory = await mkdtemp(join(tmpdir(), 'loom-test-stored-'));
  identity = join(directory, 'identity.txt');
  await writeFile(identity, `# public key: ${key.recipient}\n${key.identity}\n`);
});

afterAll(() => rm(directory, { recursive: true, force: true }));

/** Writes the files as a store has them, and returns the path of the backup. */
async function write({ name, content, manifestName, manifestText }: StoredFiles, withManifest = true): Promise<string> {
  await writeFile(join(directory, name), content);
  if (withManifest) await writeFile(join(directory, manifestName), manifestText);
  return join(directory, name);
}

async function verified(args: string[], env: Record<string, string> = {}) {
  const { code, stdout } = await runCommand(verify, [...args, '--json'], { env });
  return { exit: code, ...JSON.parse(stdout) };
}

test('verify compares a file with the manifest beside it', async () => {
  const path = await write(plain);
  const { sha256, bytes } = plain.manifest;
  expect(await verified([path])).toMatchObject({
    exit: 0,
    ok: true,
    stored: { name: plain.name, bytes, sha256, recipients: null },
  });
  const { stdout } = await runCommand(verify, [path]);
  expect(stdout).toContain(`ok as stored: "${plain.name}", ${bytes} bytes, sha256 ${sha256}`);
});

test('verify and inspect decrypt a file with the identity of an option or a variable', async () => {
  const path = await write(encrypted);
  const recipients = encrypted.manifest.encryption?.recipients;
  expect(await verified([path, '--identity', identity])).toMatchObject({ exit: 0, ok: true, stored: { recipients } });
  expect(await verified([path], { LOOM_BACKUP_IDENTITY_FILE: identity })).toMatchObject({ exit: 0 });
  expect(await verified([path], { LOOM_BACKUP_IDENTITY: key.identity })).toMatchObject({ exit: 0 });
  const { stdout } = await runCommand(inspect, [path, '--identity', identity]);
  expect(stdout).toContain('schema 5');
});

test('verify reads a backup that the program age has encrypted, packed or not', async () => {
  if (!hasAge) return;
  const path = join(directory, 'mine.age');
  for (const content of [Buffer.from(text), plain.content]) {
    await writeFile(path, runAge(['-e', '-r', key.recipient], content));
    expect(await verified([path, '--identity', identity])).toMatchObject({ exit: 0, ok: true, stored: null });
  }
  await writeFile(path, encrypted.content);
  expect(runAge(['-d', '-i', identity, path], Buffer.alloc(0)).equals(plain.content)).toBe(true);
});

test('without a key, and with a wrong one', async () => {
  const path = await write(encrypted);
  expect(await verified([path])).toMatchObject({ exit: 1, code: 'identity_missing' });
  await writeFile(identity, `${(await createEphemeralKey()).identity}\n`);
  expect(await verified([path, '--identity', identity])).toMatchObject({ exit: 1, code: 'identity_missing' });
  await writeFile(identity, 'AGE-SECRET-KEY-1PLANTED\n');
  const { detail, code } = await verified([path, '--identity', identity]);
  expect([code, detail]).toEqual(['identity_missing', expect.stringContaining('line 1')]);
  expect(detail).not.toContain('PLANTED');
  expect(await verified([path, '--identity', join(directory, 'none')])).toMatchObject({ code: 'file_unusable' });
});

test.each(['plain', 'encrypted'])('a damaged %s file is reported as that, whatever the damage spoils', async (form) => {
  const files = form === 'plain' ? plain : encrypted;
  const path = await write(files);
  const { content } = files;
  // Among them the first bytes, which tell the form of the file.
  const places = rounds({ quick: 2, full: 4 });
  for (const at of [0, content.length >> 1, 3, content.length - 1].slice(0, places)) {
    const changed = Buffer.from(content);
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at);
    await writeFile(path, changed);
    const { code, detail } = await verified([path, '--identity', identity]);
    expect([at, code, detail]).toEqual([at, 'stored_backup_damaged', expect.stringContaining('sha256')]);
    await writeFile(path, content.subarray(0, at));
    expect(await verified([path, '--identity', identity])).toMatchObject({ exit: 1, code: 'stored_backup_damaged' });
  }
});

test('a manifest of another backup, and one that is no manifest', async () => {
  const path = await write(plain);
  const claims = (members: object) =>
    writeFile(join(directory, plain.manifestName), JSON.stringify({ ...plain.manifest, ...members }));
  await claims({ revision: 7 });
  const { code, detail } = await verified([path]);
  expect([code, detail]).toEqual(['stored_manifest_invalid', expect.stringContaining('"revision" is 7')]);
  await claims({ audit_head: { seq: 1, hash: '0'.repeat(64) } });
  expect(await verified([path])).toMatchObject({ exit: 1, code: 'stored_manifest_invalid' });
  await claims({ bytes: 'many' });
  expect(await verified([path])).toMatchObject({ exit: 1, code: 'stored_manifest_invalid' });
  await claims({ bytes: plain.manifest.bytes + 1 });
  expect(await verified([path])).toMatchObject({ exit: 1, code: 'stored_backup_damaged' });
});

test('a renamed copy with its manifest', async () => {
  await writeFile(join(directory, 'copy.json.gz'), plain.content);
  await writeFile(join(directory, 'copy.json.gz.manifest.json'), plain.manifestText);
  expect(await verified([join(directory, 'copy.json.gz')])).toMatchObject({ exit: 0, stored: { name: plain.name } });
});

test('a backup without a manifest is verified as before', async () => {
  expect(await verified([await write(plain, false)])).toMatchObject({ exit: 0, stored: null });
  expect(await verified([source])).toMatchObject({ exit: 0, stored: null });
});
