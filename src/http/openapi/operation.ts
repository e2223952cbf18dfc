/**
 * Describes the requests and answers of routes, and makes the OpenAPI document of the descriptions. A route reads its
 * query with the schema of its description, and the plugins know its query parameters from it.
 *
 * May import `domain`, `backup`, `errors`, `limits` and the schemas of `request/` and `reply/`. Must not know the
 * store, Fastify, or a single route.
 */
import type { z } from 'zod';
import { receiptSchema } from '../../domain/commit.ts';
import type { ErrorCode } from '../../errors.ts';
import type { AnswerHeader, RequestHeader } from './headers.ts';

/** Describes what one method of one path accepts and answers. */
export interface Operation {
  /** Names the operation in generated clients, in camel case. */
  id: string;
  /** Says what it does, in a few words without a full stop. */
  summary: string;
  description?: string;
  /** Maps the parameters in the path to their schemas. Each has an example. */
  path?: Readonly<Record<string, z.ZodType>>;
  /** Defines the query parameters, see `request/query.ts`; `any` for probes, to which tools add their own. */
  query?: z.ZodObject | 'any';
  /** Names the request headers beyond those of every route. */
  headers?: readonly RequestHeader[];
  body?: RequestBody;
  /** Maps each status that is not an error to its answer. */
  answers: Readonly<Record<number, Answer>>;
  /** Lists the error codes beyond those that every route of its kind has, see `codes.ts`. */
  codes?: readonly ErrorCode[];
}

export interface RequestBody {
  mediaTypes: readonly string[];
  /** One of the schemas in `components.ts`. */
  schema: z.ZodType;
  /** Maps names to bodies. A test sends each. */
  examples: Readonly<Record<string, unknown>>;
}

export interface Answer {
  description: string;
  /** Names the headers beyond those of every answer. */
  headers?: readonly AnswerHeader[];
  /** Maps media types to schemas of `components.ts`. The schema of `application/x-ndjson` is that of a line. */
  content?: Readonly<Record<string, z.ZodType>>;
}

/** Answers 200 with JSON. */
export function jsonAnswer(schema: z.ZodType, description: string, headers: readonly AnswerHeader[] = []) {
  return { 200: { description, headers, content: { 'application/json': schema } } } as const;
}

/** Answers a conditional read whose client has the current content. */
export const NOT_MODIFIED = { 304: { description: 'The client has the current content.', headers: ['etag'] } } as const;

/** Names the request headers of a commit. */
export const commitHeaders: readonly RequestHeader[] = [
  'if-match',
  'if-none-match',
  'idempotency-key',
  'content-encoding',
];

/** Answers a commit with its receipt, `creates` 201 for a new document. */
export function commitAnswers({ creates, tagged }: Record<'creates' | 'tagged', boolean>): Operation['answers'] {
  const headers: readonly AnswerHeader[] = ['idempotency-replayed', ...(tagged ? (['etag'] as const) : [])];
  const content = { 'application/json': receiptSchema };
  const made = { 200: { description: 'The commit is durable.', headers, content } };
  if (!creates) return made;
  return { ...made, 201: { description: 'The document is new.', headers: [...headers, 'location'], content } };
}
