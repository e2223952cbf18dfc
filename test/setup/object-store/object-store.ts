import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import {
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
} from '@aws-sdk/client-s3';
import type { ObjectStore } from '../../../src/domain/object-store.ts';
import { type ObjectStoreOptions, openObjectStore } from '../../../src/object-store/object-store.ts';
import type { S3Bounds, S3StoreOptions } from '../../../src/object-store/s3/s3-client.ts';
import { type FaultProxy, startFaultProxy } from './fault-proxy.ts';
import { startS3Service } from './s3-service.ts';

/**
 * Gives a test a backup store of its own, of either kind, and access to its bytes past the store.
 *
 *     const store = await createTestStore('file');
 *     const objects = store.open(); // an ObjectStore
 *     await store.remove();
 */
export interface TestStore {
  kind: StoreKind;
  options: ObjectStoreOptions;
  /** Value for `LOOM_BACKUP_STORE`, and the other variables of a node that uses the store. */
  url: string;
  variables: Record<string, string>;
  open(): ObjectStore;
  /** Names of everything in the store but markers and claims. Has temporary objects and parts of uploads, too. */
  names(): Promise<string[]>;
  /** Bytes of an object, past the store. */
  read(name: string): Promise<Buffer>;
  /** Replaces an object, past the store: damages or plants it. */
  write(name: string, content: Uint8Array): Promise<void>;
  delete(name: string): Promise<void>;
  /** Leaves an unfinished write of this object behind, as a killed process does. */
  abandon(name: string): Promise<void>;
  remove(): Promise<void>;
}

/** Returns whether an object neither says which store this is, nor claims the store for a database. */
export function isNoMarker(name: string): boolean {
  return !/-store\.json$|-claim-[0-9a-f-]+\.json$/.test(name);
}

export type StoreKind = 'file' | 's3';

export const storeKinds: readonly StoreKind[] = ['file', 's3'];

export async function createTestStore(kind: StoreKind): Promise<TestStore> {
  return kind === 'file' ? await createFileTestStore() : await createS3TestStore();
}

async function createFileTestStore(): Promise<TestStore> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-test-store-'));
  const options: ObjectStoreOptions = { kind: 'file', directory };
  return {
    kind: 'file',
    options,
    url: `file://${directory}`,
    variables: {},
    open: () => openObjectStore(options),
    names: async () => (await readdir(directory)).filter(isNoMarker),
    read: (name) => readFile(join(directory, name)),
    write: (name, content) => writeFile(join(directory, name), content),
    delete: (name) => rm(join(directory, name)),
    abandon: (name) => writeFile(join(directory, `.${name}.0123456789abcdef.part`), 'unfinished'),
    remove: () => rm(directory, { recursive: true, force: true }),
  };
}

/** A store in S3, behind a proxy that makes faults. */
export interface S3TestStore extends TestStore {
  kind: 's3';
  options: S3StoreOptions;
  proxy: FaultProxy;
  /** Whether the service lists unfinished uploads by a prefix. MinIO lists only those of one whole key. */
  listsUploads: boolean;
  /** Opens the store with shorter bounds. */
  open(bounds?: Partial<S3Bounds>): ObjectStore;
}

const usualBounds: S3Bounds = { idleTimeoutMs: 10_000, requestTimeoutMs: 20_000, maxAttempts: 2 };

/** Creates a store in the service of the run, or in that of `url`. */
export async function createS3TestStore(url?: string): Promise<S3TestStore> {
  const service = await startS3Service(url);
  const proxy = await startFaultProxy(service.endpoint, { completes: service.kind === 's3rver' });
  const { bucket, credentials } = service;
  // Tests of several processes may share the bucket.
  const folder = `tests/${randomBytes(8).toString('hex')}`;
  const options: S3StoreOptions = { kind: 's3', bucket, prefix: folder, endpoint: proxy.endpoint, credentials };
  const raw = new S3Client({ endpoint: service.endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  const place = (name: string) => ({ Bucket: bucket, Key: `${options.prefix}/${name}` });
  const proxied = new S3Client({ endpoint: proxy.endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
  const withoutPrefix = ({ Key = '' }: { Key?: string | undefined }) => Key.slice(options.prefix.length + 1);
  const prefix = { Bucket: bucket, Prefix: `${options.prefix}/` };
  const listUploads = async () => (await proxied.send(new ListMultipartUploadsCommand(prefix))).Uploads ?? [];
  return {
    kind: 's3',
    options,
    proxy,
    listsUploads: service.kind !== 'minio',
    url: `s3://${bucket}/${options.prefix}`,
    variables: {
      LOOM_BACKUP_S3_ENDPOINT: proxy.endpoint,
      LOOM_BACKUP_S3_ACCESS_KEY_ID: credentials.accessKeyId,
      LOOM_BACKUP_S3_SECRET_ACCESS_KEY: credentials.secretAccessKey,
    },
    open: (bounds) => openObjectStore(options, { ...usualBounds, ...bounds }),
    names: async () => {
      const { Contents = [] } = await raw.send(new ListObjectsV2Command(prefix));
      return [...Contents, ...(await listUploads())].map(withoutPrefix).filter(isNoMarker);
    },
    read: async (name) => {
      const { Body } = await raw.send(new GetObjectCommand(place(name)));
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    },
    write: async (name, content) => {
      await raw.send(new PutObjectCommand({ ...place(name), Body: content }));
    },
    delete: async (name) => {
      await raw.send(new DeleteObjectCommand(place(name)));
    },
    abandon: async (name) => {
      await proxied.send(new CreateMultipartUploadCommand(place(name)));
    },
    remove: async () => {
      raw.destroy();
      proxied.destroy();
      await proxy.close();
      await service.stop();
    },
  };
}
