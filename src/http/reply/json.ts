import type { FastifyReply } from 'fastify';

/**
 * Serializes a JSON answer. Every one ends with a newline, so that a shell prompt after `curl` starts on its own line.
 * `server.ts` makes this the serializer of all values that routes return.
 */
export function toJsonLine(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}

/** Sends JSON text as PostgreSQL wrote it. The hash of an audit entry covers that text, so it is never parsed here. */
export function sendJsonText(reply: FastifyReply, text: string): FastifyReply {
  return reply.type('application/json').send(`${text}\n`);
}
