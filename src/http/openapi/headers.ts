import { z } from 'zod';
import { limits } from '../../limits.ts';
import { idempotencyKeySchema } from '../request/commit.ts';

const header = z.string();

const entityTags = header.describe('"*", or a list of entity tags in double quotes (RFC 9110 §13.1)');

/** Maps the names of request headers to their schemas. `Authorization`, `Accept` and `Content-Type` are not listed. */
export const requestHeaders = {
  'x-request-id': header
    .describe(
      'Id of the request, in the log and in audit entries. The node keeps it if it has up to ' +
        `${limits.maxRequestIdBytes} visible ASCII characters without quotes and backslash; otherwise it creates one`,
    )
    .meta({ examples: ['order-4711'] }),
  'x-loom-actor': header
    .describe(
      `On whose behalf the request is sent: UTF-8, with up to ${limits.maxActorCharacters} printable characters. ` +
        'The audit entry keeps it',
    )
    .meta({ examples: ['alice'] }),
  'if-match': entityTags.meta({ examples: ['*'] }),
  'if-none-match': entityTags.meta({ examples: ['"mv0S7yTtHF.17"'] }),
  'idempotency-key': idempotencyKeySchema
    .describe('Names the change: the node repeats the first answer to the same change with the same key')
    .meta({ examples: ['4fb1a5c2'] }),
  'content-encoding': z
    .enum(['gzip', 'x-gzip', 'identity'])
    .describe('Encoding of the body')
    .meta({
      examples: ['identity'],
    }),
  prefer: header
    .describe(
      `With wait=N, the node answers when the run has ended, or after N seconds (at most ${limits.maxPreferredWaitSeconds})`,
    )
    .meta({ examples: ['wait=1'] }),
  'accept-encoding': header.describe('With gzip, the node compresses the backup').meta({ examples: ['gzip'] }),
} as const;

export type RequestHeader = keyof typeof requestHeaders;

/** Maps the names of answer headers to their schemas. `Content-Type` is not listed. */
export const answerHeaders = {
  'x-request-id': header.describe('Id of the request: that of the client, if the node kept it'),
  'cache-control': z.literal('no-store'),
  etag: header
    .regex(/^"([0-9A-Za-z_-]+\.\d+|[0-9a-f]{64})"$/)
    .describe('Entity tag of the document or state: epoch and revision; of a stored backup: its SHA-256'),
  'last-modified': header.describe("Time of the document's last change, to the second"),
  location: header.describe('Path of the new document, or of the run'),
  'preference-applied': header.regex(/^wait=\d+$/).describe('The seconds for which the node was ready to wait'),
  'idempotency-replayed': z.literal('true').describe('The answer is that of an earlier request with the same key'),
  'retry-after': header.regex(/^\d+$/).describe('Seconds to wait before sending the request again'),
  'www-authenticate': header,
  'accept-ranges': z.literal('none').describe('The node sends no part of the bytes'),
  'content-disposition': header.describe('Suggests a file name'),
  'content-encoding': z.literal('gzip'),
  vary: header,
} as const;

export type AnswerHeader = keyof typeof answerHeaders;

/** Lists the headers of every answer. */
export const everyAnswer: readonly AnswerHeader[] = ['x-request-id', 'cache-control'];
