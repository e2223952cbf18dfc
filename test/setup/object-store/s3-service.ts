import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { dockerAnswers } from '../deploy/docker.ts';

/** A service with the interface of S3, with an empty bucket. */
export interface S3Service {
  endpoint: string;
  bucket: string;
  credentials: { accessKeyId: string; secretAccessKey: string };
  kind: 'given' | 'minio' | 's3rver';
  stop(): Promise<void>;
}

/**
 * Starts an S3 service, or uses a given one, by default that of `LOOM_TEST_S3_URL`, such as
 * `http://key:secret@127.0.0.1:9000/bucket`. Each test has its own prefix there. Without one, the service is MinIO in a
 * container if Docker answers, and else `s3rver` in this process.
 */
export async function startS3Service(given = process.env.LOOM_TEST_S3_URL): Promise<S3Service> {
  if (given !== undefined && given !== '') return useGiven(new URL(given));
  return dockerAnswers() ? await startMinio() : await startS3rver();
}

function useGiven(url: URL): S3Service {
  return {
    kind: 'given',
    endpoint: url.origin,
    bucket: url.pathname.replace(/^\/|\/$/g, ''),
    credentials: {
      accessKeyId: decodeURIComponent(url.username),
      secretAccessKey: decodeURIComponent(url.password),
    },
    stop: async () => undefined,
  };
}

const BUCKET = 'loom-test';

async function startMinio(): Promise<S3Service> {
  const { GenericContainer, Wait } = await import('testcontainers');
  const credentials = { accessKeyId: 'loom-test', secretAccessKey: 'loom-test-secret' };
  const container = await new GenericContainer('minio/minio')
    .withEnvironment({ MINIO_ROOT_USER: credentials.accessKeyId, MINIO_ROOT_PASSWORD: credentials.secretAccessKey })
    // A folder of the data is a bucket.
    .withEntrypoint(['sh', '-c', `mkdir -p /data/${BUCKET} && exec minio server /data`])
    .withExposedPorts(9000)
    .withWaitStrategy(Wait.forHttp('/minio/health/live', 9000))
    .start();
  return {
    kind: 'minio',
    endpoint: `http://${container.getHost()}:${container.getMappedPort(9000)}`,
    bucket: BUCKET,
    credentials,
    stop: async () => {
      await container.stop();
    },
  };
}

interface S3rver {
  run(): Promise<AddressInfo>;
  close(): Promise<void>;
  httpServer: { closeAllConnections(): void };
}

async function startS3rver(): Promise<S3Service> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-test-s3-'));
  const create: new (options: object) => S3rver = createRequire(import.meta.url)('s3rver');
  const server = new create({
    address: '127.0.0.1',
    port: 0,
    silent: true,
    directory,
    vhostBuckets: false,
    configureBuckets: [{ name: BUCKET }],
  });
  const { port } = await server.run();
  return {
    kind: 's3rver',
    endpoint: `http://127.0.0.1:${port}`,
    bucket: BUCKET,
    credentials: { accessKeyId: 'S3RVER', secretAccessKey: 'S3RVER' },
    stop: async () => {
      server.httpServer.closeAllConnections();
      await server.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}
