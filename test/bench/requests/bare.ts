/**
 * Serves the baseline of the benchmarks `ready`, `read` and `lone` in its own process: Fastify with one handler each,
 * without logging, hooks, tokens and metrics. Prints its URL.
 */
import { fastify } from 'fastify';
import pg from 'pg';
import { limits } from '../../../src/limits.ts';
import { READ_DOCUMENT } from '../../../src/persistence/read/document.ts';
import { BASELINE_STATEMENT } from '../pgbench.ts';

const [databaseUrl = '', poolMax = ''] = process.argv.slice(2);
const pool = new pg.Pool({ connectionString: databaseUrl, max: Number(poolMax) });
const app = fastify();

app.get('/ready', () => ({ ok: true, checks: { http: 'ok', database: 'ok', schema: 'ok' } }));

app.get<{ Params: { name: string } }>('/v1/documents/:name', async (request, reply) => {
  const values = ['default', request.params.name, limits.smallTextBytes];
  const { rows } = await pool.query<{ text: string }>(READ_DOCUMENT, values);
  return reply.type('application/json').send(rows[0]?.text);
});

app.put('/v1/documents/:name', async () => {
  await pool.query(BASELINE_STATEMENT);
  return { ok: true };
});

process.stdout.write(`${await app.listen({ host: '127.0.0.1', port: 0 })}\n`);
