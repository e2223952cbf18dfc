import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import {
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  PutBucketPolicyCommand,
  PutBucketVersioningCommand,
  PutObjectCommand,
  PutObjectLockConfigurationCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createEphemeralKey } from '../../src/backup/stored/encryption.ts';
import type { ObjectStore } from '../../src/domain/object-store.ts';
import { openObjectStore } from '../../src/object-store/object-store.ts';
import { openBackupNode, takeProven } from '../setup/backups/backup-node.ts';
import { isInstalled, runToEnd } from '../setup/deploy/tools.ts';
import { createS3TestStore } from '../setup/object-store/object-store.ts';
import { ceph } from '../setup/object-store/services/ceph.ts';
import {
  type LocalService,
  type RunningService,
  startLocalService,
} from '../setup/object-store/services/local-service.ts';
import { moto } from '../setup/object-store/services/moto.ts';
import { swift } from '../setup/object-store/services/swift.ts';
import { createTestDatabase } from '../setup/server/database.ts';

// Runs the tests of stores, and the rules of buckets, against each real service whose programs are installed.

const { signal } = new AbortController();
const root = fileURLToPath(new URL('../..', import.meta.url));
/** More than one page of a list. */
const MANY = 1_010;

for (const service of [ceph, swift, moto]) {
  const missing = service.programs.filter((program) => !isInstalled(program));
  if (missing.length > 0)
    test(`${service.name} is not tried: ${missing} is not installed (${service.packages})`, () => {
      for (const program of missing) expect(isInstalled(program)).toBe(false);
    });
  else
    describe(service.name, () => {
      const site = createSite(service);
      testStores(service, site);
      testBuckets(service, site);
      testRights(service, site);
      testRuns(site);
    });
}

interface Site {
  /** Both are set while the tests run. */
  service: RunningService;
  raw: S3Client;
  /** Opens a store of its own, with another bucket, prefix or key if given. */
  open(members?: { bucket?: string; prefix?: string; credentials?: RunningService['credentials'] }): ObjectStore;
}

/** Starts the service for all tests of this suite. */
function createSite(local: LocalService): Site {
  const stores: ObjectStore[] = [];
  let running: { service: RunningService; raw: S3Client } | undefined;
  const get = () => {
    if (running === undefined) throw new Error(`${local.name} is not running`);
    return running;
  };

  beforeAll(async () => {
    const service = await startLocalService(local);
    const { endpoint, credentials } = service;
    running = { service, raw: new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials }) };
  }, 400_000);

  afterAll(async () => {
    for (const store of stores) await store.close();
    running?.raw.destroy();
    await running?.service.stop();
  });

  return {
    get service() {
      return get().service;
    },
    get raw() {
      return get().raw;
    },
    open: (members) => {
      const { endpoint, credentials } = get().service;
      const prefix = `own/${randomBytes(4).toString('hex')}`;
      const store = openObjectStore({ kind: 's3', bucket: 'loom-test', prefix, endpoint, credentials, ...members });
      stores.push(store);
      return store;
    },
  };
}

const put = (store: ObjectStore, name: string, content: Uint8Array) =>
  store.put(name, Readable.from([content]), signal);

async function namesOf(store: ObjectStore, prefix = ''): Promise<string[]> {
  const found: string[] = [];
  for await (const { name } of store.list(prefix, signal)) found.push(name);
  return found;
}

/** Sends this many requests, some at a time. */
async function sendMany(send: (index: number) => Promise<unknown>): Promise<void> {
  for (let from = 0; from < MANY; from += 20)
    await Promise.all(Array.from({ length: Math.min(20, MANY - from) }, (_, index) => send(from + index)));
}

function testStores(service: LocalService, site: Site): void {
  test('passes the tests of stores, at quick depth', async () => {
    // Only the age of uploads is tested with dates of the service.
    const dated = service.datesUploads ? [] : ['--testNamePattern', '^(?!.*(?:unfinished writes|wrong key))'];
    const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'test/vitest.config.ts', ...dated];
    const env = `LOOM_TEST_S3_URL=${site.service.url}`;
    const files = ['contract', 's3-faults', 'planted-words'].map((name) => `test/object-store/${name}.test.ts`);
    const command = [
      'env',
      '-C',
      root,
      '-u',
      'VITEST',
      '-u',
      'LOOM_TEST_DEPTH',
      env,
      process.execPath,
      ...vitest,
      ...files,
    ];
    const { code, stdout, stderr } = await runToEnd(command);
    expect(code, stdout + stderr).toBe(0);
  }, 400_000);

  test.each(["a!b.c*d'e(f)g/h=i@j:k-l_m", 'x'.repeat(512), 'a/b/c/d'])('takes the prefix %s', async (prefix) => {
    const store = site.open({ prefix });
    // The names of the state keys "a/b ~%ä" and of one that is cut.
    for (const name of ['loom-a%2Fb%20%7E%25%C3%A4-x.json.gz', `loom-${'a'.repeat(100)}~0123-x.json.gz.age`]) {
      await put(store, name, Buffer.from('content'));
      expect(await namesOf(store, name.slice(0, 12))).toEqual([name]);
      expect((await buffer(await store.get(name, signal))).toString()).toBe('content');
      await store.delete(name, signal);
    }
    expect(await namesOf(store)).toEqual([]);
  });

  test('has more objects, and more unfinished uploads, than one page of a list', async () => {
    const store = site.open({ prefix: 'many' });
    const place = (index: number) => ({ Bucket: 'loom-test', Key: `many/loom-a-${index}` });
    await sendMany((index) => site.raw.send(new PutObjectCommand({ ...place(index), Body: 'x' })));
    expect(new Set(await namesOf(store)).size).toBe(MANY);
    if (!service.datesUploads) return;
    await sendMany((index) => site.raw.send(new CreateMultipartUploadCommand(place(index))));
    const now = new Date(Date.now() + 7_200_000);
    expect(await store.sweep('loom-a-', { olderThanMs: 3_600_000, now }, signal)).toBe(MANY);
    expect(await store.sweep('loom-a-', { olderThanMs: 3_600_000, now }, signal)).toBe(0);
  }, 400_000);

  test.each([8, 16, 30])(
    'stores and returns %i MiB, whole parts or not',
    async (mebibytes) => {
      const store = site.open();
      for (const bytes of [mebibytes * 2 ** 20, mebibytes * 2 ** 20 + 1]) {
        const content = randomBytes(bytes);
        await put(store, 'large', content);
        expect((await buffer(await store.get('large', signal))).equals(content)).toBe(true);
        await store.delete('large', signal);
      }
    },
    120_000,
  );

  test('corrects a clock of the node that is hours wrong', async () => {
    for (const hours of [-3, 3]) {
      const store = site.open();
      vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + hours * 3_600_000 });
      try {
        await store.check(signal);
        await put(store, 'large', randomBytes(9 * 2 ** 20));
      } finally {
        vi.useRealTimers();
      }
      expect(await namesOf(store)).toEqual(['large']);
    }
  });
}

function testBuckets(service: LocalService, site: Site): void {
  test('keeps versions: a deleted backup is gone for LOOM, and its name is free', async () => {
    await site.raw.send(new CreateBucketCommand({ Bucket: 'loom-versions' }));
    const VersioningConfiguration = { Status: 'Enabled' as const };
    await site.raw.send(new PutBucketVersioningCommand({ Bucket: 'loom-versions', VersioningConfiguration }));
    const store = site.open({ bucket: 'loom-versions' });
    for (const content of [Buffer.from('small'), randomBytes(9 * 2 ** 20)]) {
      for (let round = 0; round < 2; round += 1) {
        await put(store, 'one', content);
        await expect(put(store, 'one', content)).rejects.toMatchObject({ code: 'store_failed' });
        expect(await namesOf(store)).toEqual(['one']);
        await store.delete('one', signal);
        expect(await store.head('one', signal)).toBeUndefined();
        await expect(store.get('one', signal)).rejects.toMatchObject({ code: 'stored_backup_missing' });
      }
    }
  });

  if (service.hasLocks)
    test('locks objects: a put and a delete work as with versions', async () => {
      const Bucket = 'loom-locked';
      await site.raw.send(new CreateBucketCommand({ Bucket, ObjectLockEnabledForBucket: true }));
      const Rule = { DefaultRetention: { Mode: 'COMPLIANCE' as const, Days: 1 } };
      const ObjectLockConfiguration = { ObjectLockEnabled: 'Enabled' as const, Rule };
      await site.raw.send(new PutObjectLockConfigurationCommand({ Bucket, ObjectLockConfiguration }));
      const store = site.open({ bucket: Bucket });
      await store.check(signal);
      for (const content of [Buffer.from('small'), randomBytes(9 * 2 ** 20)]) {
        await put(store, 'one', content);
        await store.delete('one', signal);
      }
      expect(await namesOf(store)).toEqual([]);
    });
}

function testRights(service: LocalService, site: Site): void {
  if (service.hasPolicies)
    test('says which right is missing', async () => {
      const denials = { PutObject: 'write', GetObject: '(?:read|look at)', DeleteObject: 'delete' };
      for (const [right, verb] of Object.entries(denials)) {
        const Bucket = `loom-no-${right.toLowerCase()}`;
        await site.raw.send(new CreateBucketCommand({ Bucket }));
        const Resource = [`arn:aws:s3:::${Bucket}`, `arn:aws:s3:::${Bucket}/*`];
        const Statement = [{ Effect: 'Deny', Principal: '*', Action: [`s3:${right}`], Resource }];
        const Policy = JSON.stringify({ Version: '2012-10-17', Statement });
        await site.raw.send(new PutBucketPolicyCommand({ Bucket, Policy }));
        const message = expect.stringMatching(new RegExp(`^Could not ${verb} .*HTTP 403.* Grant the key`));
        await expect(site.open({ bucket: Bucket }).check(signal), right).rejects.toMatchObject({
          code: 'store_refused',
          message,
        });
      }
    });

  if (service.checksKeys)
    test('refuses wrong keys', async () => {
      const { accessKeyId } = site.service.credentials;
      for (const id of ['another', accessKeyId]) {
        const wrong = site.open({ credentials: { accessKeyId: id, secretAccessKey: 'wrong-secret' } });
        for (const call of [() => wrong.check(signal), () => wrong.head('a', signal), () => namesOf(wrong)])
          await expect(call()).rejects.toMatchObject({
            code: 'store_refused',
            message: expect.stringContaining('Check the access key'),
          });
      }
    });
}

function testRuns(site: Site): void {
  test('keeps backups that are proven, plain and encrypted, in one part and in several', async () => {
    const database = await createTestDatabase();
    const objects = await createS3TestStore(site.service.url);
    const { recipient, identity } = await createEphemeralKey();
    for (const megabytes of [0, 12]) {
      for (const keys of [
        { recipients: [], identities: [] },
        { recipients: [recipient], identities: [identity] },
      ]) {
        const node = await openBackupNode(database.url, objects.open(), { keys });
        for (let index = 0; index < megabytes; index += 1)
          await node.node.put(`large-${index}`, randomBytes(750_000).toString('base64'));
        await node.node.put('small', { keys: keys.recipients.length });
        const name = await takeProven(node);
        expect(await (await node.runs.drill(name)).ended).toMatchObject({ outcome: 'proven' });
        expect((await objects.read(name)).length > 8 * 2 ** 20).toBe(megabytes > 0);
        await node.close();
      }
    }
    expect(await objects.names()).toHaveLength(8);
    await database.drop();
    await objects.remove();
  }, 200_000);
}
