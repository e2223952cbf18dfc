import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import autocannon from 'autocannon';
import { findPgbench, runPgbench } from './pgbench.ts';
import { execute, TOKEN, withBenchServer } from './server.ts';

const WARM_UP_SECONDS = 2;
const SECONDS = 6;
const CLIENTS = [1, 32];

const document = JSON.stringify({ counter: 1, text: 'x'.repeat(100) });

/** Tables for transactions like a commit of LOOM: each updates one row and inserts one row of an entry's size. */
const tables = `
  create table bench_state (state_key text primary key, revision bigint not null, hash bytea not null) with (fillfactor = 50);
  create table bench_audit (state_key text not null, seq bigint not null, entry jsonb not null, hash bytea not null, primary key (state_key, seq));
  create sequence bench_seq;
  insert into bench_state values ('default', 0, decode(repeat('00', 32), 'hex'))`;

const script = `
begin;
update bench_state set revision = revision + 1, hash = decode(repeat('11', 32), 'hex') where state_key = 'default';
insert into bench_audit values ('default', nextval('bench_seq'), '{"action": "document.put", "changes": [{"op": "put", "name": "doc", "value": ${document}}], "request_id": "6f1b1b1a-0000-4000-8000-000000000000"}', decode(repeat('11', 32), 'hex'));
commit;
`;

/**
 * Measures durable commits per second over HTTP on one state key. Then measures the same update and insert by pgbench
 * on the same server. fsync is on. The target is at least 2 × pgbench with 32 clients.
 */
export async function benchmarkCommit(): Promise<void> {
  const pgbench = await findPgbench();
  await withBenchServer(async (server) => {
    const scriptFile = join(server.directory, 'update-and-insert.sql');
    await writeFile(scriptFile, script);
    const pgbenchUrl = await server.createDatabase('bench_pgbench');
    await execute(pgbenchUrl, tables);
    const node = await server.startNode(await server.createDatabase('bench_loom'));
    try {
      for (const clients of CLIENTS) {
        await measureLoom(node.url, clients, WARM_UP_SECONDS);
        const loom = await measureLoom(node.url, clients, SECONDS);
        const tps =
          pgbench === undefined
            ? undefined
            : await runPgbench({ pgbench, url: pgbenchUrl, scriptFile, clients, seconds: SECONDS });
        print(clients, loom, tps);
      }
    } finally {
      await node.stop();
    }
  });
}

/** Each client sends these requests in turn. */
const requests = Array.from({ length: 32 }, (_, index) => ({
  method: 'PUT' as const,
  path: `/v1/documents/doc-${index}`,
  headers: { 'x-loom-admin-token': TOKEN, 'content-type': 'application/json' },
  body: document,
}));

/** Returns commits per second. LOOM answers 200 or 201 only after the transaction has committed. */
async function measureLoom(url: string, clients: number, seconds: number): Promise<number> {
  const result = await autocannon({
    url,
    connections: clients,
    duration: seconds,
    requests,
  });
  const statuses = JSON.stringify(result.statusCodeStats);
  const refused = result.non2xx + result.errors + result.timeouts;
  if (refused > 0) throw new Error(`${refused} of the commits failed: ${statuses}`);
  return result['2xx'] / result.duration;
}

function print(clients: number, loom: number, tps: number | undefined): void {
  const comparison =
    tps === undefined
      ? 'pgbench was not found (Debian: apt-get install postgresql-contrib), so there is no comparison'
      : `pgbench ${tps.toFixed(0)}/s, LOOM is ${(loom / tps).toFixed(2)} × pgbench`;
  process.stdout.write(
    `${String(clients).padStart(3)} clients: LOOM ${loom.toFixed(0)} commits/s over HTTP; ${comparison}\n`,
  );
}
