import { text } from 'node:stream/consumers';
import { expect, test } from 'vitest';
import { createEphemeralKey } from '../../src/backup/stored/encryption.ts';
import { parseStoredManifest } from '../../src/backup/stored/stored-manifest.ts';
import { manifestNameOf } from '../../src/backup/stored/stored-name.ts';
import { createLogger } from '../../src/log.ts';
import { openBackupSite, takeProven } from '../setup/backups/backup-node.ts';
import { outcomeOf } from '../setup/node/nodes.ts';

const signal = new AbortController().signal;

test('an encrypted backup is proven when it is written, and later only with its key', async () => {
  const site = await openBackupSite();
  const [owner, other] = [await createEphemeralKey(), await createEphemeralKey()];
  const recipients = [owner.recipient];
  const writer = await site.open({ keys: { recipients, identities: [] } });
  await writer.node.put('secret', { word: 'quetzal' });
  const done = await (await writer.runs.take()).ended;
  expect(done).toMatchObject({ outcome: 'proven', code: null });
  const name = String(done.name);
  expect(name).toMatch(/\.json\.gz\.age$/);
  const manifest = parseStoredManifest((await site.objects.read(manifestNameOf(name))).toString(), name);
  expect(manifest).toMatchObject({ state_sha256: null, encryption: { format: 'age', recipients } });

  // Without a key, only the bytes can be compared, and the proof stays.
  const compared = await (await writer.runs.drill(name)).ended;
  expect(compared).toMatchObject({ outcome: 'verified', code: null });
  expect(compared.detail).toContain('LOOM_BACKUP_IDENTITY_FILE');
  expect(await outcomeOf(writer.runs.openPlain(name, signal))).toBe('identity_missing');

  // A wrong key is a failure that says nothing about the backup.
  const stranger = await site.open({ keys: { recipients, identities: [other.identity] } });
  expect(await (await stranger.runs.drill(name)).ended).toMatchObject({ outcome: 'failed', code: 'identity_missing' });
  expect((await writer.ledger.readBackup(name))?.proven_at).not.toBeNull();

  const keeper = await site.open({ keys: { recipients, identities: [other.identity, owner.identity] } });
  expect(await (await keeper.runs.drill(name)).ended).toMatchObject({ outcome: 'proven' });
  expect(JSON.parse(await text(await keeper.runs.openPlain(name, signal))).state).toEqual(await keeper.node.state());

  const stored = await site.objects.read(name);
  stored[stored.length >> 1] = (stored[stored.length >> 1] ?? 0) ^ 1;
  await site.objects.write(name, stored);
  for (const { runs } of [writer, keeper]) {
    expect(await (await runs.drill(name)).ended).toMatchObject({ outcome: 'failed', code: 'stored_backup_damaged' });
  }
  await site.close();
});

test('a node without recipients warns when it stores plain text after an encrypted backup', async () => {
  const site = await openBackupSite();
  const { recipient } = await createEphemeralKey();
  const lines: string[] = [];
  const log = createLogger({ level: 'warn', stream: { write: (line) => void lines.push(line) } });
  const plain = await site.open({ log });
  const encrypting = await site.open({ keys: { recipients: [recipient], identities: [] }, log });
  await takeProven(plain);
  await takeProven(encrypting);
  expect(lines).toEqual([]);
  await takeProven(plain);
  expect(lines).toEqual([expect.stringContaining('set LOOM_BACKUP_RECIPIENTS on this node')]);
  await site.close();
});
