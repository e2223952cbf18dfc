import type { Readable } from 'node:stream';
import type { StoredObject } from '../../domain/object-store.ts';
import { LoomError } from '../../errors.ts';
import { CHECK_PREFIX, isSwept, isTemporary } from '../names.ts';
import type { Bucket, S3 } from './s3-client.ts';
import { isNotFound, statusOf, toS3Fault } from './s3-faults.ts';
import { readObjectStream } from './s3-stream.ts';

/** Sends a request, and converts its error. `doing` continues "Could not …". */
export async function request<T>(
  bucket: Bucket,
  doing: string,
  signal: AbortSignal,
  call: (s3: S3, options: { abortSignal: AbortSignal }) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  try {
    const s3 = await bucket.load();
    return await withRightClock(() => call(s3, { abortSignal: signal }));
  } catch (error) {
    signal.throwIfAborted();
    throw toS3Fault(error, doing, bucket.options);
  }
}

/**
 * Sends a request again whose time the service finds wrong. The client takes the time of each answer over, but repeats
 * the request only while the clock of the machine is wrong, and not when it has just been set right.
 */
export async function withRightClock<T>(send: () => Promise<T>): Promise<T> {
  try {
    return await send();
  } catch (error) {
    if (error instanceof Error && error.name === 'RequestTimeTooSkewed') return await send();
    throw error;
  }
}

export async function getObject(bucket: Bucket, name: string, signal: AbortSignal): Promise<Readable> {
  const doing = `read ${JSON.stringify(name)}`;
  const answer = await request(bucket, doing, signal, async ({ sdk, reader }, options) => {
    const command = new sdk.GetObjectCommand({ Bucket: bucket.options.bucket, Key: bucket.keyOf(name) });
    return await reader.send(command, options).catch((error: unknown) => {
      if (isNotFound(error)) throw isMissing(bucket, name);
      throw error;
    });
  });
  return readObjectStream(answer.Body as Readable, {
    doing,
    bytes: answer.ContentLength,
    idleTimeoutMs: bucket.bounds.idleTimeoutMs,
    signal,
    toFault: (error) => toS3Fault(error, doing, bucket.options),
  });
}

function isMissing({ options }: Bucket, name: string): LoomError {
  return new LoomError(
    'stored_backup_missing',
    `The bucket ${JSON.stringify(options.bucket)} has no object ${JSON.stringify(name)}. Look for another copy of it, ` +
      'or for an older version if the bucket keeps versions.',
  );
}

/** Describes an object with the random text that its writer gave it. */
export type FoundObject = StoredObject & { token: string | undefined };

export async function headObject(bucket: Bucket, name: string, signal: AbortSignal): Promise<FoundObject | undefined> {
  const doing = `look at ${JSON.stringify(name)}`;
  let { found, refusal } = await tryHead(bucket, { doing, name }, signal);
  if (found === undefined) {
    // An answer to HEAD has no body, so it tells neither a missing object from a missing bucket, nor why it refuses.
    await readPage(bucket, { doing, prefix: bucket.keyOf(name), maxKeys: 1 }, signal);
    if (statusOf(refusal) === 404) return undefined;
    // The list may have corrected the time of the requests.
    ({ found, refusal } = await tryHead(bucket, { doing, name }, signal));
    if (found === undefined && statusOf(refusal) === 404) return undefined;
  }
  if (found === undefined) throw toS3Fault(refusal, doing, bucket.options);
  const { ContentLength: bytes, LastModified: modifiedAt } = found;
  if (bytes === undefined || modifiedAt === undefined) throw answeredOtherwise(doing);
  return {
    name,
    bytes,
    modifiedAt,
    token: found.Metadata?.[TOKEN],
  };
}

/** Asks for an object. Returns the error of an answer, and throws any other. */
async function tryHead(bucket: Bucket, { doing, name }: { doing: string; name: string }, signal: AbortSignal) {
  return await request(bucket, doing, signal, async ({ sdk, client }, options) => {
    const command = new sdk.HeadObjectCommand({ Bucket: bucket.options.bucket, Key: bucket.keyOf(name) });
    try {
      return { found: await client.send(command, options), refusal: undefined };
    } catch (error) {
      if (statusOf(error) === undefined) throw error;
      return { found: undefined, refusal: error };
    }
  });
}

/** Names the metadata of an object with the random text of its writer. */
export const TOKEN = 'loom-write';

export async function* listObjects(bucket: Bucket, prefix: string, signal: AbortSignal): AsyncGenerator<StoredObject> {
  for await (const one of listKeys(bucket, prefix, signal)) if (!isTemporary(one.name)) yield one;
}

async function* listKeys(bucket: Bucket, prefix: string, signal: AbortSignal): AsyncGenerator<StoredObject> {
  const doing = 'list the objects';
  const start = bucket.keyOf('');
  let token: string | undefined;
  do {
    const page = await readPage(bucket, { doing, prefix: `${start}${prefix}`, token }, signal);
    for (const { Key = '', Size = 0, LastModified = new Date(0) } of page.Contents ?? []) {
      const name = Key.slice(start.length);
      if (name !== '') yield { name, bytes: Size, modifiedAt: LastModified };
    }
    token = page.IsTruncated === true ? page.NextContinuationToken : undefined;
  } while (token !== undefined);
}

async function readPage(
  bucket: Bucket,
  { doing, prefix, token, maxKeys }: { doing: string; prefix: string; token?: string | undefined; maxKeys?: number },
  signal: AbortSignal,
) {
  return await request(bucket, doing, signal, async ({ sdk, client }, options) => {
    const page = await client.send(
      new sdk.ListObjectsV2Command({
        Bucket: bucket.options.bucket,
        Prefix: prefix,
        Delimiter: '/',
        ...(token !== undefined && { ContinuationToken: token }),
        ...(maxKeys !== undefined && { MaxKeys: maxKeys }),
      }),
      options,
    );
    // The client reads an answer 200 with an error inside as an empty list.
    if (page.IsTruncated === undefined) throw answeredOtherwise(doing);
    return page;
  });
}

function answeredOtherwise(doing: string): LoomError {
  return new LoomError(
    'store_failed',
    `Could not ${doing}: the service reported success, but answered something else. Check that the endpoint is one of ` +
      'S3, and the proxies before it.',
  );
}

/** Deletes an object, and makes sure that it is gone. */
export async function deleteObject(bucket: Bucket, name: string, signal: AbortSignal): Promise<void> {
  const doing = `delete ${JSON.stringify(name)}`;
  await request(bucket, doing, signal, async ({ sdk, client }, options) => {
    await client.send(new sdk.DeleteObjectCommand({ Bucket: bucket.options.bucket, Key: bucket.keyOf(name) }), options);
  });
  if ((await headObject(bucket, name, signal)) === undefined) return;
  throw new LoomError(
    'store_failed',
    `Could not ${doing}: the service reported success, but the object is still there.`,
  );
}

export async function sweepBucket(
  bucket: Bucket,
  { prefix, isOld }: { prefix: string; isOld: (date: Date) => boolean },
  signal: AbortSignal,
): Promise<number> {
  let swept = 0;
  for await (const { name, modifiedAt } of listKeys(bucket, CHECK_PREFIX, signal)) {
    if (!isSwept(name, prefix) || !isOld(modifiedAt)) continue;
    await deleteObject(bucket, name, signal);
    swept += 1;
  }
  for await (const { Key, UploadId, Initiated } of listUploads(bucket, prefix, signal)) {
    if (Initiated === undefined || !isOld(Initiated)) continue;
    await request(bucket, 'abort an unfinished upload', signal, async ({ sdk, client }, options) => {
      const command = new sdk.AbortMultipartUploadCommand({ Bucket: bucket.options.bucket, Key, UploadId });
      await client.send(command, options).catch((error: unknown) => {
        // It has ended meanwhile.
        if (statusOf(error) !== 404) throw error;
      });
    });
    swept += 1;
  }
  return swept;
}

const NOT_IMPLEMENTED = [405, 501];

/** Lists the unfinished uploads. A service that cannot list them removes them by itself, if at all. */
export async function* listUploads(bucket: Bucket, prefix: string, signal: AbortSignal) {
  let markers: { KeyMarker?: string; UploadIdMarker?: string } | undefined = {};
  while (markers !== undefined) {
    const from: { KeyMarker?: string; UploadIdMarker?: string } = markers;
    const page = await request(bucket, 'list unfinished uploads', signal, async ({ sdk, client }, options) => {
      const command = new sdk.ListMultipartUploadsCommand({
        Bucket: bucket.options.bucket,
        Prefix: `${bucket.keyOf('')}${prefix}`,
        ...from,
      });
      return await client.send(command, options).catch((error: unknown) => {
        if (NOT_IMPLEMENTED.includes(statusOf(error) ?? 0)) return undefined;
        throw error;
      });
    });
    yield* page?.Uploads ?? [];
    markers =
      page?.IsTruncated === true && page.NextKeyMarker !== undefined
        ? {
            KeyMarker: page.NextKeyMarker,
            ...(page.NextUploadIdMarker !== undefined && { UploadIdMarker: page.NextUploadIdMarker }),
          }
        : undefined;
  }
}
