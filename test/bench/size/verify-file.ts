import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { fillState } from '../../setup/server/filled-state.ts';
import { hashFile } from '../copy.ts';
import { seriesOf, timed } from '../figures.ts';
import type { Figure } from '../results.ts';
import { withBenchServer } from '../server.ts';
import { run, takeBackup } from './transfers.ts';

const SIZES = [
  { what: 'many entries', documents: 2_000, documentBytes: 2_000, entries: 200_000 },
  { what: 'many documents', documents: 50_000, documentBytes: 1_000, entries: 50_000 },
];
const TURNS = 3;
const MB = 1e6;

/** Measures how fast the program verifies backups of about 100 MB, including its start. */
export async function benchmarkVerifyFile(): Promise<Figure[]> {
  return withBenchServer(async (server) => {
    const figures: Figure[] = [];
    for (const { what, ...size } of SIZES) {
      const url = await server.createDatabase('bench_verify_file');
      await fillState(url, size);
      const node = await server.startNode(url);
      const file = join(server.directory, 'backup.json');
      try {
        await takeBackup(node.url, file);
      } finally {
        await node.stop();
      }
      const { size: bytes } = await stat(file);
      const times: { verify: number; hash: number }[] = [];
      for (let turn = 0; turn < TURNS; turn += 1) {
        const verify = await timed(() => run('"$1" "$2" verify "$3"', [process.execPath, server.entry, file]));
        const hash = await timed(() => hashFile(file));
        times.push({ verify: verify.seconds, hash: hash.seconds });
      }
      const rate = bytes / MB / seriesOf(times.map(({ verify }) => verify)).median;
      const ratio = seriesOf(times.map(({ verify, hash }) => verify / hash)).median;
      figures.push(
        { name: `verify FILE, ${what}`, value: rate, unit: 'MB/s', goal: { atLeast: 60 } },
        { name: `verify FILE, ${what}, time`, value: ratio, unit: '×', comparedWith: 'sha256 of the file' },
        { name: `size of the file, ${what}`, value: bytes / MB, unit: 'MB' },
      );
    }
    return figures;
  });
}
