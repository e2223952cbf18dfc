import { randomBytes, randomUUID } from 'node:crypto';
import type { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createEphemeralKey } from '../../src/backup/stored/encryption.ts';
import { writeStoreMarker } from '../../src/backup/stored/store-marker.ts';
import { storeMarkerNameOf } from '../../src/backup/stored/stored-name.ts';
import type { StoredKeys } from '../../src/runs/parts.ts';
import { type BackupNode, type BackupSite, openBackupSite, takeProven } from '../setup/backups/backup-node.ts';
import { outcomeOf } from '../setup/node/nodes.ts';

const signal = new AbortController().signal;

// The last chunk of a stored backup is held back until its digest matches. So damage shows as a fault of gunzip or age
// only if the backup has several chunks.
const LARGE_BYTES = 700_000;

let site: BackupSite;
beforeAll(async () => {
  site = await openBackupSite();
});
afterAll(() => site.close());

describe.each(['in plain text', 'encrypted'])('a large stored backup %s', (form) => {
  let keys: StoredKeys = { recipients: [], identities: [] };
  let at: BackupNode;
  let name: string;
  let whole: Buffer;
  beforeAll(async () => {
    const { recipient, identity } = await createEphemeralKey();
    if (form === 'encrypted') keys = { recipients: [recipient], identities: [identity] };
    at = await site.open({ keys });
    await at.node.put('large', { text: randomBytes(LARGE_BYTES).toString('base64') });
    name = await takeProven(at);
    whole = await site.objects.read(name);
  });

  const readText = async (): Promise<unknown> => buffer(await at.runs.openPlain(name, signal));
  const readBytes = async (): Promise<unknown> => buffer((await at.runs.open(name, signal)).body);

  test('keeps its proof if a reader only leaves, or has a wrong key', async () => {
    const reader = new AbortController();
    const leaving: Readable = await at.runs.openPlain(name, reader.signal);
    reader.abort();
    expect(await outcomeOf(buffer(leaving))).toBe('ABORT_ERR');
    (await at.runs.open(name, signal)).body.destroy();
    if (form === 'encrypted') {
      const stranger = await site.open({ keys: { ...keys, identities: [(await createEphemeralKey()).identity] } });
      expect(await outcomeOf(stranger.runs.openPlain(name, signal))).toBe('identity_missing');
    }
    expect(await at.ledger.readBackup(name)).toMatchObject({ proven_at: expect.any(String), fault: null });
  });

  test('is refused as damaged wherever it is changed. The catalogue withdraws its proof until a drill renews it', async () => {
    const { faultyBackups: before } = await at.runs.observe();
    for (const place of [0, 50, whole.length >> 1, whole.length - 1]) {
      const spoiled = Buffer.from(whole);
      spoiled[place] = (spoiled[place] ?? 0) ^ 1;
      await site.objects.write(name, spoiled);
      for (const read of [readText, readBytes])
        await expect(read(), `byte ${place}`).rejects.toMatchObject({
          code: 'stored_backup_damaged',
          message: expect.stringContaining(`"${name}" is damaged or was replaced: the SHA-256`),
        });
    }
    expect(await at.ledger.readBackup(name)).toMatchObject({
      proven_at: null,
      fault: { code: 'stored_backup_damaged', detail: expect.stringContaining('SHA-256') },
    });
    expect(await at.runs.observe()).toMatchObject({ faultyBackups: before + 1, lastFailure: null });
    await site.objects.write(name, whole);
    expect(await (await at.runs.drill(name)).ended).toMatchObject({ outcome: 'proven' });
    expect(await at.runs.observe()).toMatchObject({ faultyBackups: before });
    expect(await at.ledger.readBackup(name)).toMatchObject({ proven_at: expect.any(String), fault: null });
  });

  test('is missing, which the catalogue notes only of its own store. Another store says that it is another one', async () => {
    const marker = storeMarkerNameOf(at.node.stateKey);
    const id = await site.objects.read(marker);
    await site.objects.delete(name);
    await site.objects.write(marker, Buffer.from(writeStoreMarker(randomUUID())));
    for (const read of [readBytes, readText])
      await expect(read()).rejects.toMatchObject({ code: 'store_failed', message: expect.stringContaining('mounted') });
    expect(await at.ledger.readBackup(name)).toMatchObject({ fault: null });
    await site.objects.write(marker, id);
    expect(await outcomeOf(readText())).toBe('stored_backup_missing');
    expect(await at.ledger.readBackup(name)).toMatchObject({ fault: { code: 'stored_backup_missing' } });
    await site.objects.write(name, whole);
  });
});
