import type { FastifyReply } from 'fastify';

/**
 * Serializes a JSON answer. The final newline keeps the shell prompt after `curl` on its own line. `server.ts` uses it
 * for every value that a route returns.
 */
export function toJsonLine(value: unknown): string {
  return `${JSON.stringify(value)}\n`;
}

/** Sends PostgreSQL's JSON text unchanged. The hash of an audit entry covers this text, so it is never parsed here. */
export function sendJsonText(reply: FastifyReply, text: string): FastifyReply {
  return reply.type('application/json').send(`${text}\n`);
}
