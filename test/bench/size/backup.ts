import { fillState, type StateSize } from '../../setup/server/filled-state.ts';
import { copyOut } from '../copy.ts';
import { seriesOf, timed } from '../figures.ts';
import type { BenchOptions, Figure } from '../results.ts';
import { TOKEN, withBenchServer } from '../server.ts';
import { run } from './transfers.ts';

const TURNS = 3;

/** Measures a backup over HTTP against COPY of the same rows, with many entries and with many documents. */
export async function benchmarkBackup({ entries = 200_000 }: BenchOptions): Promise<Figure[]> {
  const shapes: Record<string, StateSize> = {
    'many entries': { documents: Math.ceil(entries / 100), documentBytes: 2_000, entries },
    'many documents': { documents: entries, documentBytes: 500, entries },
  };
  return withBenchServer(
    async (server) => {
      const figures: Figure[] = [];
      for (const [shape, size] of Object.entries(shapes)) {
        const url = await server.createDatabase('bench_stream');
        await fillState(url, size);
        const node = await server.startNode(url);
        try {
          const turns: { loom: number; copy: number }[] = [];
          await server.checkpoint();
          // The first turn reads the tables from disk, and compiles the code of the node.
          await readBackup(node.url);
          for (let turn = 0; turn < TURNS; turn += 1) {
            const copy = (await timed(() => copyOut(url))).seconds;
            turns.push({ loom: (await timed(() => readBackup(node.url))).seconds, copy });
          }
          const median = (of: (turn: { loom: number; copy: number }) => number): number =>
            seriesOf(turns.map(of)).median;
          figures.push(
            {
              name: `backup, ${shape}`,
              value: median(({ loom, copy }) => loom / copy),
              unit: '×',
              comparedWith: 'COPY of the rows to a client',
              goal: { atMost: 1.5 },
            },
            { name: `backup, ${shape}, time`, value: median(({ loom }) => loom), unit: 's' },
          );
        } finally {
          await node.stop();
        }
      }
      return figures;
    },
    { autovacuum: 'off' },
  );
}

/** Reads a backup with curl, which takes little of the processor. */
async function readBackup(nodeUrl: string): Promise<void> {
  const script = `curl -sS --fail-with-body -o /dev/null -H "x-loom-admin-token: ${TOKEN}" "$1"`;
  await run(script, [`${nodeUrl}/v1/admin/persistence/backup`]);
}
