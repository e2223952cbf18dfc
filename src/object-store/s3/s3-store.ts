import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import type { ObjectStore } from '../../domain/object-store.ts';
import { createRoundTripCheck } from '../check.ts';
import { withContent } from '../content.ts';
import { assertObjectName, CHECK_PREFIX, nameIsTaken } from '../names.ts';
import { createBucket, type S3Bounds, type S3StoreOptions } from './s3-client.ts';
import { deleteObject, getObject, headObject, listObjects, listUploads, sweepBucket } from './s3-objects.ts';
import { tryCondition, uploadObject } from './s3-put.ts';

/** Keeps each object under its name, below the prefix of the bucket. S3 shows an object only when it is complete. */
export function createS3Store(options: S3StoreOptions, bounds?: S3Bounds): ObjectStore {
  const bucket = createBucket(options, bounds);
  /** Whether the service accepts `If-None-Match` for a put. Known after the first check. */
  let isConditional: boolean | undefined;

  const roundTrip = createRoundTripCheck({
    put: async (name, content, signal) => {
      const bytes = await buffer(content);
      isConditional = await tryCondition(bucket, name, bytes, signal);
      if (isConditional) return;
      await uploadObject(bucket, { name, content: Readable.from([bytes]), isConditional }, signal);
    },
    get: (name, signal) => getObject(bucket, name, signal),
    delete: (name, signal) => deleteObject(bucket, name, signal),
  });

  /** Also lists the unfinished uploads, because a sweep that may not do so leaves them, and each takes space. */
  async function check(signal: AbortSignal): Promise<void> {
    await roundTrip(signal);
    for await (const _ of listUploads(bucket, CHECK_PREFIX, signal)) break;
  }

  return {
    address: `s3://${options.prefix === '' ? options.bucket : `${options.bucket}/${options.prefix}`}`,
    check,
    put: (name, content, signal) =>
      withContent(content, async () => {
        assertObjectName(name);
        if (isConditional === undefined) await check(signal);
        if ((await headObject(bucket, name, signal)) !== undefined) throw nameIsTaken(name);
        return await uploadObject(bucket, { name, content, isConditional: isConditional === true }, signal);
      }),
    get: async (name, signal) => {
      assertObjectName(name);
      return await getObject(bucket, name, signal);
    },
    head: async (name, signal) => {
      assertObjectName(name);
      const found = await headObject(bucket, name, signal);
      return found && { name, bytes: found.bytes, modifiedAt: found.modifiedAt };
    },
    list: (prefix, signal) => listObjects(bucket, prefix, signal),
    delete: async (name, signal) => {
      assertObjectName(name);
      await deleteObject(bucket, name, signal);
    },
    sweep: (prefix, { olderThanMs, now }, signal) => {
      const isOld = (date: Date): boolean => now.getTime() - date.getTime() >= olderThanMs;
      return sweepBucket(bucket, { prefix, isOld }, signal);
    },
    close: bucket.close,
  };
}
