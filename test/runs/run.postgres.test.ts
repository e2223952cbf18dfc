import { randomBytes } from 'node:crypto';
import { buffer, text } from 'node:stream/consumers';
import { gunzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseStoredManifest } from '../../src/backup/stored/stored-manifest.ts';
import { manifestNameOf } from '../../src/backup/stored/stored-name.ts';
import type { BackupRun } from '../../src/domain/backup-run.ts';
import { type BackupNode, type BackupSite, openBackupSite } from '../setup/backups/backup-node.ts';
import { sampleByKind } from '../setup/depth.ts';
import { outcomeOf } from '../setup/node/nodes.ts';

let site: BackupSite;
let at: BackupNode;
beforeAll(async () => {
  site = await openBackupSite();
  at = await site.open();
  await at.node.put('a', { text: 'first' });
});
afterAll(() => site.close());

async function take(node = at): Promise<BackupRun> {
  const { ended } = await node.runs.take();
  return await ended;
}

async function drill(name: string): Promise<BackupRun> {
  const { ended } = await at.runs.drill(name);
  return await ended;
}

const signal = new AbortController().signal;

describe('a run', () => {
  test('writes a backup and its manifest, proves it, and leaves nothing else', async () => {
    await at.node.put('b', 'ä'.repeat(100_000));
    const { run, ended } = await at.runs.take();
    expect(run).toMatchObject({ kind: 'manual', attempt: 1, outcome: 'running', ended_at: null });
    const done = await ended;
    expect(done).toMatchObject({ id: run.id, outcome: 'proven', code: null });
    const name = String(done.name);
    const [backup] = await at.runs.list({ limit: 1 });
    const stored = await site.objects.read(name);
    expect(backup).toMatchObject({ name, revision: 2, bytes: stored.length, encrypted: false, fault: null });
    expect(backup?.proven_at).not.toBeNull();
    expect(backup?.restore_seconds).toBeGreaterThan(0);
    const plain = JSON.parse(gunzipSync(stored).toString());
    expect(plain.state).toEqual(await at.node.state());
    expect(plain.manifest.audit_entries).toBe(2);
    const manifest = parseStoredManifest((await site.objects.read(manifestNameOf(name))).toString(), name);
    expect(manifest).toMatchObject({ documents: 2, revision: 2, state_sha256: plain.manifest.state_sha256 });
    expect((await site.objects.names()).toSorted()).toEqual([name, manifestNameOf(name)].toSorted());
    expect(await at.node.store.readScratchStates()).toEqual([]);
    expect((await at.node.store.readHead()).lastBackupAt).not.toBeNull();
  });

  test('is refused while the node is running another one', async () => {
    const { ended } = await at.runs.take();
    expect(await outcomeOf(at.runs.take())).toBe('backup_running');
    expect((await ended).outcome).toBe('proven');
  });

  test('works for an empty state', async () => {
    const empty = await openBackupSite();
    const node = await empty.open();
    expect(await take(node)).toMatchObject({ outcome: 'proven' });
    await empty.close();
  });
});

describe('a stored backup', () => {
  test('opens as it lies there, and as the text of a backup', async () => {
    const name = String((await take()).name);
    const { body } = await at.runs.open(name, signal);
    const stored: Buffer[] = [];
    for await (const chunk of body) stored.push(chunk);
    const plain = await text(await at.runs.openPlain(name, signal));
    expect(gunzipSync(Buffer.concat(stored)).toString()).toBe(plain);
    expect(JSON.parse(plain).state).toEqual(await at.node.state());
  });

  test('that the catalogue does not have is refused', async () => {
    const { open, openPlain, remove, drill: prove } = at.runs;
    for (const verb of [open, openPlain, remove, prove]) {
      expect(await outcomeOf(verb('x', signal))).toBe('stored_backup_not_found');
    }
  });

  test('that is damaged fails before its last byte', async () => {
    const name = String((await take()).name);
    const stored = await site.objects.read(name);
    // The operating system in the header of gzip: nothing but the digest covers it.
    stored[9] = (stored[9] ?? 0) ^ 1;
    await site.objects.write(name, stored);
    expect(await outcomeOf(text(await at.runs.openPlain(name, signal)))).toBe('stored_backup_damaged');
  });
});

test('a node that stops its runs still sends what is open, until it closes', async () => {
  const remote = await openBackupSite('s3');
  try {
    const node = await remote.open();
    await node.node.put('a', randomBytes(3 * 1024 * 1024).toString('base64'));
    const name = String((await take(node)).name);
    const { backup, body } = await node.runs.open(name, signal);
    await node.runs.stop();
    expect(await buffer(body)).toHaveLength(Number(backup.bytes));
    expect(await outcomeOf(node.runs.take())).toBe('draining');
  } finally {
    await remote.close();
  }
});

describe('a drill', () => {
  test('proves a stored backup again', async () => {
    const name = String((await take()).name);
    const [before] = await at.runs.list({ limit: 1 });
    expect(await drill(name)).toMatchObject({ kind: 'drill', outcome: 'proven', name });
    const [after] = await at.runs.list({ limit: 1 });
    expect(String(after?.proven_at) > String(before?.proven_at)).toBe(true);
    expect(await at.node.store.readScratchStates()).toEqual([]);
  });

  const damages: Record<string, { code: string; spoil(name: string, older: string): Promise<void> }> = {
    'one bit': {
      code: 'stored_backup_damaged',
      spoil: async (name) => {
        const stored = await site.objects.read(name);
        const middle = stored.length >> 1;
        stored[middle] = (stored[middle] ?? 0) ^ 0x10;
        await site.objects.write(name, stored);
      },
    },
    'a cut end': {
      code: 'stored_backup_damaged',
      spoil: async (name) => site.objects.write(name, (await site.objects.read(name)).subarray(0, -1)),
    },
    'an older backup in its place': {
      code: 'stored_backup_damaged',
      spoil: async (name, older) => site.objects.write(name, await site.objects.read(older)),
    },
    'an older backup and manifest in its place': {
      code: 'stored_backup_damaged',
      spoil: async (name, older) => {
        await site.objects.write(name, await site.objects.read(older));
        await site.objects.write(manifestNameOf(name), await site.objects.read(manifestNameOf(older)));
      },
    },
    'a missing object': { code: 'stored_backup_missing', spoil: (name) => site.objects.delete(name) },
    'a missing manifest': { code: 'stored_backup_missing', spoil: (name) => site.objects.delete(manifestNameOf(name)) },
    'a changed manifest': {
      code: 'stored_manifest_invalid',
      spoil: async (name) => site.objects.write(manifestNameOf(name), Buffer.from('{}')),
    },
  };

  const sample = sampleByKind(Object.entries(damages), () => 'damage', { purpose: 'damages' });
  test.each(sample)('finds %s, names the backup and withdraws its proof', async (_what, damage) => {
    await at.node.put('a', { text: 'older' });
    const older = String((await take()).name);
    await at.node.put('a', { text: 'newer' });
    const name = String((await take()).name);
    await damage.spoil(name, older);
    const run = await drill(name);
    expect(run).toMatchObject({ outcome: 'failed', code: damage.code, name });
    expect(run.detail).toContain(name);
    const [backup] = await at.runs.list({ limit: 1 });
    expect(backup).toMatchObject({ name, proven_at: null, fault: { code: damage.code } });
    expect(await at.node.store.readScratchStates()).toEqual([]);
    const [, before] = await at.runs.list({ limit: 2 });
    expect(before).toMatchObject({ name: older, fault: null });
    expect(before?.proven_at).not.toBeNull();
  });
});
