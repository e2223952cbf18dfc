import { createHash, randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { S3Client } from '@aws-sdk/client-s3';
import type { WrittenObject } from '../../domain/object-store.ts';
import { LoomError } from '../../errors.ts';
import { limits } from '../../limits.ts';
import { nameIsTaken } from '../names.ts';
import type { Bucket, S3 } from './s3-client.ts';
import { statusOf, toS3Fault } from './s3-faults.ts';
import { deleteObject, headObject, request, TOKEN, withRightClock } from './s3-objects.ts';

interface Write {
  name: string;
  content: Readable;
  /** Whether the service refuses to replace an object if asked to. */
  isConditional: boolean;
}

/**
 * Writes an object in one request, or in parts if it is larger than one. After a failure, aborts the upload. At the
 * end, compares what the service has with what was sent: an answer 200 may have an error inside.
 */
export async function uploadObject(
  bucket: Bucket,
  { name, content, isConditional }: Write,
  signal: AbortSignal,
): Promise<WrittenObject> {
  const doing = `write ${JSON.stringify(name)}`;
  const token = randomBytes(16).toString('hex');
  const source = measure(content, signal);
  const { Upload } = await import('@aws-sdk/lib-storage');
  const s3 = await bucket.load();
  const upload = new Upload({
    client: createSender(s3, source.stop, signal),
    partSize: limits.s3PartBytes,
    queueSize: limits.maxS3PartsInFlight,
    params: {
      Bucket: bucket.options.bucket,
      Key: bucket.keyOf(name),
      Body: Readable.from(source.chunks(), { objectMode: false }),
      ContentType: 'application/octet-stream',
      Metadata: { [TOKEN]: token },
      ...(isConditional && { IfNoneMatch: '*' }),
    },
  });
  let answer: unknown;
  try {
    await upload.done();
  } catch (error) {
    signal.throwIfAborted();
    const fault = source.fault();
    if (fault !== undefined) throw fault.error;
    // The answer to the first attempt may have been lost, and the second one finds its object.
    if (!mayBeOwn(error)) throw toS3Fault(error, doing, bucket.options);
    answer = error;
  }
  const written = source.end();
  const found = await headObject(bucket, name, signal);
  const isOwn = found?.token === token || (found?.token === undefined && answer === undefined);
  if (found !== undefined && isOwn && found.bytes === written.bytes) return written;
  if (found !== undefined && !isOwn) throw nameIsTaken(name);
  if (answer !== undefined) throw toS3Fault(answer, doing, bucket.options);
  // A reader must not find a part of an object under its name.
  if (found?.token === token) await deleteObject(bucket, name, signal).catch(() => undefined);
  throw new LoomError(
    'store_failed',
    `Could not ${doing}: the service reported success, but has ${found?.bytes ?? 'none'} of its ${written.bytes} bytes. ` +
      'Check the service, and proxies before it.',
  );
}

function mayBeOwn(error: unknown): boolean {
  const name = error instanceof Error ? error.name : '';
  return statusOf(error) === 412 || name === 'ConditionalRequestConflict' || name === 'NoSuchUpload';
}

/** Counts and hashes a content while an upload reads it, and keeps the content's own error. */
function measure(content: Readable, signal: AbortSignal) {
  const hash = createHash('sha256');
  let bytes = 0;
  let fault: { error: unknown } | undefined;
  let isStopped = false;
  const stop = (): void => {
    isStopped = true;
    content.destroy();
  };
  async function* chunks(): AsyncGenerator<Uint8Array> {
    signal.addEventListener('abort', stop);
    try {
      for await (const chunk of content as AsyncIterable<Uint8Array>) {
        hash.update(chunk);
        bytes += chunk.length;
        yield chunk;
      }
    } catch (error) {
      if (!isStopped) fault = { error };
      throw error;
    } finally {
      signal.removeEventListener('abort', stop);
    }
  }
  return { chunks, stop, fault: () => fault, end: (): WrittenObject => ({ bytes, sha256: hash.digest('hex') }) };
}

/**
 * Creates the client of one upload. It aborts requests with the signal, adds the MD5 of each part, and ends the content
 * as soon as a request has failed.
 */
function createSender({ sdk, client }: S3, stop: () => void, signal: AbortSignal): S3Client {
  const sender: S3Client = Object.create(client);
  const send = async (command: Parameters<S3Client['send']>[0]): Promise<unknown> => {
    if (command instanceof sdk.AbortMultipartUploadCommand) {
      // The sweep aborts the upload if this fails. The first error is the one to report.
      const bounded = AbortSignal.timeout(limits.s3CleanupTimeoutMs);
      return await client.send(command, { abortSignal: bounded }).catch(() => undefined);
    }
    if (command instanceof sdk.PutObjectCommand || command instanceof sdk.UploadPartCommand) {
      const { Body } = command.input;
      if (Body instanceof Uint8Array) command.input.ContentMD5 = createHash('md5').update(Body).digest('base64');
    }
    try {
      return await withRightClock(() => client.send(command, { abortSignal: signal }));
    } catch (error) {
      stop();
      throw error;
    }
  };
  return Object.assign(sender, { send });
}

const UNKNOWN_CONDITION = [400, 405, 501];

/**
 * Writes a small object under a random name if there is none. Returns false, and writes nothing, if the service does
 * not know how.
 */
export async function tryCondition(
  bucket: Bucket,
  name: string,
  content: Uint8Array,
  signal: AbortSignal,
): Promise<boolean> {
  return await request(bucket, `write ${JSON.stringify(name)}`, signal, async ({ sdk, client }, options) => {
    const command = new sdk.PutObjectCommand({
      Bucket: bucket.options.bucket,
      Key: bucket.keyOf(name),
      Body: content,
      ContentMD5: createHash('md5').update(content).digest('base64'),
      IfNoneMatch: '*',
    });
    try {
      await client.send(command, options);
      return true;
    } catch (error) {
      // The answer to the first attempt was lost, and the second one has found its object.
      if (statusOf(error) === 412) return true;
      if (UNKNOWN_CONDITION.includes(statusOf(error) ?? 0)) return false;
      throw error;
    }
  });
}
