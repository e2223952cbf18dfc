import type { S3Client, S3ClientConfig } from '@aws-sdk/client-s3';
import { limits } from '../../limits.ts';

// src/object-store/s3/ keeps objects in a bucket of S3 or of a compatible service. It may import what its parent may,
// and it alone imports the S3 client, when the first verb is called: a node without such a store never loads it.

/** Describes the objects of a bucket whose keys begin with `prefix`. */
export interface S3StoreOptions {
  kind: 's3';
  bucket: string;
  /** Without slashes at its ends; empty for the whole bucket. */
  prefix: string;
  /** Address of an S3-compatible service; undefined for AWS. */
  endpoint?: string | undefined;
  region?: string | undefined;
  /** Undefined for the provider chain of the SDK: variables, files, the role of the machine. */
  credentials?: { accessKeyId: string; secretAccessKey: string } | undefined;
}

/** Bounds that tests shorten. */
export interface S3Bounds {
  idleTimeoutMs: number;
  requestTimeoutMs: number;
  maxAttempts: number;
}

const usualBounds: S3Bounds = {
  idleTimeoutMs: limits.s3IdleTimeoutMs,
  requestTimeoutMs: limits.s3RequestTimeoutMs,
  maxAttempts: limits.maxS3Attempts,
};

export interface S3 {
  sdk: typeof import('@aws-sdk/client-s3');
  client: S3Client;
  /** Reads objects. Its sockets may be quiet: a reader may pause for longer than a service may. */
  reader: S3Client;
}

/** Names what the functions of this folder need of a store. */
export interface Bucket {
  options: S3StoreOptions;
  bounds: S3Bounds;
  load(): Promise<S3>;
  keyOf(name: string): string;
  close(): Promise<void>;
}

export function createBucket(options: S3StoreOptions, bounds: S3Bounds = usualBounds): Bucket {
  let loading: Promise<S3> | undefined;
  return {
    options,
    bounds,
    load: () => {
      loading ??= loadClient(options, bounds).catch((error: unknown) => {
        loading = undefined;
        throw error;
      });
      return loading;
    },
    keyOf: (name) => (options.prefix === '' ? name : `${options.prefix}/${name}`),
    close: async () => {
      const loaded = await loading?.catch(() => undefined);
      loaded?.client.destroy();
      loaded?.reader.destroy();
    },
  };
}

/** The region in signatures for services that have none. MinIO, Ceph and R2 accept it. */
const REGION_OF_ENDPOINTS = 'us-east-1';

async function loadClient(options: S3StoreOptions, bounds: S3Bounds): Promise<S3> {
  const sdk = await import('@aws-sdk/client-s3');
  const { endpoint, credentials } = options;
  const region = options.region ?? (endpoint === undefined ? undefined : REGION_OF_ENDPOINTS);
  const config: S3ClientConfig = {
    ...(endpoint !== undefined && { endpoint, forcePathStyle: true }),
    ...(region !== undefined && { region }),
    ...(credentials !== undefined && { credentials }),
    // The newer checksums of AWS are unknown to R2, Ceph and older MinIO. A put sends the MD5 instead.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // A service or proxy that ignores "Expect: 100-continue" would keep each part waiting.
    expectContinueHeader: false,
    maxAttempts: bounds.maxAttempts,
  };
  const connection = { connectionTimeout: limits.s3ConnectTimeoutMs, throwOnRequestTimeout: true };
  const { idleTimeoutMs, requestTimeoutMs } = bounds;
  return {
    sdk,
    client: new sdk.S3Client({
      ...config,
      requestHandler: { ...connection, socketTimeout: idleTimeoutMs, requestTimeout: requestTimeoutMs },
    }),
    reader: new sdk.S3Client({
      ...config,
      // Bounds the time until the answer begins. The stream bounds the rest.
      requestHandler: { ...connection, socketTimeout: 0, requestTimeout: idleTimeoutMs },
    }),
  };
}
