import type { ObjectStore } from '../domain/object-store.ts';
import { createFileStore } from './file/file-store.ts';

// src/object-store/ keeps backups in a folder or in S3, behind the type `ObjectStore` of domain. It may import domain,
// errors, limits, Node's modules and the S3 client. It must not know backups, their names, the database or HTTP routes.

/** Describes a folder. It must exist: a missing mount must not fill the disk below it. */
export interface FileStoreOptions {
  kind: 'file';
  /** Absolute path. */
  directory: string;
}

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

export type ObjectStoreOptions = FileStoreOptions | S3StoreOptions;

/** Opens a store. Does not access it: `check` does. */
export function openObjectStore(options: FileStoreOptions): ObjectStore {
  return createFileStore(options);
}
