import { z } from 'zod';

// These schemas define the values that requests and answers share. The schemas of answers in this folder consist of
// them, the types of the code are derived from those, and `GET /openapi.json` shows both. `describe` holds the comments
// of members, because the OpenAPI document prints them.

/** Accepts a number of things or bytes. */
export const count = z.int().min(0);

/** Accepts the seq of an audit entry, from 1, or 0 for the head of an empty trail. */
export const seq = z.int().min(0);

export const revision = z.int().min(0);

/** Accepts a digest or hash: SHA-256 in lower-case hex. */
export const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

export const epoch = z.string().regex(/^[0-9A-Za-z_-]{1,64}$/);

/** Accepts a UUID of any version, in lower case. */
export const eventId = z.string().regex(/^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);

/** Accepts a time of RFC 3339 in UTC. */
export const time = z.iso.datetime();

/** Accepts any JSON value. */
export const jsonValue = z.unknown();

/** Maps the names of documents to their values. */
export const documentsByName = z.record(z.string(), jsonValue);
