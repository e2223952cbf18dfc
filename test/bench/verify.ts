import { fillState, type StateSize } from '../setup/server/filled-state.ts';
import { copyOut } from './copy.ts';
import { quantile, timed } from './figures.ts';
import type { BenchOptions, Figure } from './results.ts';
import { type BenchServer, execute, TOKEN, withBenchServer } from './server.ts';

const ROUNDS = 5;

/** Replaces each patch of a filled state by a put of the document that it makes, and links the chain anew. */
const ONLY_PUTS = `
  set session_replication_role = replica;
  update loom_audit a set action = 'document.put', entry = a.entry || jsonb_build_object('action', 'document.put', 'changes',
         jsonb_build_array((a.entry #> '{changes,0}') || jsonb_build_object('op', 'put', 'value', made.value)))
    from (select seq, loom_fold(entry #>> '{changes,0,op}', entry #> '{changes,0,value}')
                        over (partition by entry #>> '{changes,0,name}' order by seq) as value from loom_audit) made
   where a.seq = made.seq;
  update loom_audit a set hash = linked.hash
    from (select seq, loom_chain_after(decode(repeat('00', 32), 'hex'), entry) over (order by seq) as hash from loom_audit) linked
   where a.seq = linked.seq;
  update loom_state set audit_hash = (select hash from loom_audit order by seq desc limit 1);
  update loom_change set op = 'put'`;

async function makePuts(url: string): Promise<void> {
  await execute(url, ONLY_PUTS);
  for (const statement of ['vacuum full loom_audit', 'vacuum full loom_change', 'vacuum analyze'])
    await execute(url, statement);
}

/**
 * Compares GET /v1/audit/verify with a COPY of the same rows to a client, in turns: of a trail of puts, of many
 * documents, and of a trail of patches. Each patch makes a document that COPY does not read, and that the verification
 * prints and hashes.
 */
export async function benchmarkVerify({ full, entries = full ? 200_000 : 40_000 }: BenchOptions): Promise<Figure[]> {
  const long = { documents: 2_000, documentBytes: 400, entries };
  const wide = { documents: entries / 4, documentBytes: 2_000, entries: entries / 4 };
  return withBenchServer(async (server) => [
    await measure(server, 'a trail of puts', long, { onlyPuts: true, goal: { atMost: 2 } }),
    await measure(server, 'many documents', wide, { goal: { atMost: 2 } }),
    await measure(server, 'a trail of patches', long, {}),
  ]);
}

async function measure(
  server: BenchServer,
  what: string,
  size: StateSize,
  { onlyPuts = false, goal }: { onlyPuts?: boolean; goal?: Figure['goal'] },
): Promise<Figure> {
  const url = await server.createDatabase('bench_verify');
  await fillState(url, size);
  if (onlyPuts) await makePuts(url);
  const node = await server.startNode(url);
  try {
    const ratios: number[] = [];
    await copyOut(url);
    for (let round = 0; round < ROUNDS; round += 1) {
      const copied = await timed(() => copyOut(url));
      const verified = await timed(() => verify(node.url));
      ratios.push(verified.seconds / copied.seconds);
    }
    const name = `verification of ${what}, ${size.documents} documents and ${size.entries} entries`;
    const figure = {
      name,
      value: quantile(
        ratios.toSorted((one, other) => one - other),
        0.5,
      ),
      unit: '×',
    };
    return { ...figure, comparedWith: 'COPY of the rows to a client', ...(goal === undefined ? {} : { goal }) };
  } finally {
    await node.stop();
    await server.dropDatabase('bench_verify');
  }
}

/** Verifies the state, and throws unless it is valid. */
async function verify(nodeUrl: string): Promise<void> {
  const answer = await fetch(`${nodeUrl}/v1/audit/verify`, { headers: { 'x-loom-admin-token': TOKEN } });
  const verdict = (await answer.json()) as { ok?: boolean };
  if (verdict.ok !== true) throw new Error(`The verification found a fault: ${JSON.stringify(verdict)}`);
}
