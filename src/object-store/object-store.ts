import type { ObjectStore } from '../domain/object-store.ts';
import { createFileStore } from './file/file-store.ts';
import type { S3Bounds, S3StoreOptions } from './s3/s3-client.ts';
import { createS3Store } from './s3/s3-store.ts';

// src/object-store/ keeps backups in a folder or in S3, behind the type `ObjectStore` of domain. It may import domain,
// errors, limits, Node's modules and the S3 client. It must not know backups, their names, the database or HTTP routes.

/** Describes a folder. It must exist: a missing mount must not fill the disk below it. */
export interface FileStoreOptions {
  kind: 'file';
  /** Absolute path. */
  directory: string;
}

export type ObjectStoreOptions = FileStoreOptions | S3StoreOptions;

/** Opens a store. Does not access it: `check` does. Tests shorten the bounds of S3. */
export function openObjectStore(options: ObjectStoreOptions, bounds?: S3Bounds): ObjectStore {
  return options.kind === 'file' ? createFileStore(options) : createS3Store(options, bounds);
}
