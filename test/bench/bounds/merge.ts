import { migrate } from '../../../src/persistence/schema/migrate.ts';
import { loadMigrations } from '../../../src/persistence/schema/migrations.ts';
import { openTestStore, type TestStore } from '../../setup/node/store.ts';
import { openDoor } from '../../setup/server/door.ts';
import { showTable } from '../figures.ts';
import { withBenchServer } from '../server.ts';

const ROUNDS = 5;

/** Returns a document and a merge patch of it, as JSON texts. */
type Shape = (size: number) => [document: string, patch: string];

const members = (count: number, value: (index: number) => string): string =>
  `{${Array.from({ length: count }, (_, index) => `"key${index}":${value(index)}`).join()}}`;
const nested = (depth: number, inner: string): string => `${'{"a":'.repeat(depth)}${inner}${'}'.repeat(depth)}`;

const counts = [1_000, 4_000, 20_000, 100_000, 200_000];
const depths = [1, 4, 16, 64, 126];

const shapes: { name: string; sizes: number[]; shape: Shape }[] = [
  { name: 'members', sizes: counts, shape: (count) => [members(count, String), members(count, () => '0')] },
  { name: 'nulls', sizes: counts, shape: (count) => [members(count, String), members(count, () => 'null')] },
  {
    name: 'objects',
    sizes: counts,
    shape: (count) => [members(count, (n) => `{"a":${n}}`), members(count, (n) => `{"b":${n}}`)],
  },
  { name: 'one member of a wide document', sizes: counts, shape: (count) => [members(count, String), '{"key0":0}'] },
  {
    name: 'one member at a depth',
    sizes: depths,
    shape: (depth) => [nested(depth, members(50_000, String)), nested(depth, '{"key0":0}')],
  },
  {
    name: '50,000 members at a depth',
    sizes: depths,
    shape: (depth) => [
      nested(depth, members(50_000, String)),
      nested(
        depth,
        members(50_000, () => '0'),
      ),
    ],
  },
];

/**
 * Measures merge patches: the time for each byte of document and patch. Linear time means that a shape has about the
 * same time for each byte at all sizes. The last column is the largest time for a byte of the shape, compared with the
 * smallest.
 */
export async function benchmarkMerge(): Promise<void> {
  await withBenchServer(async (server) => {
    const url = await server.createDatabase('bench_merge');
    const door = openDoor(url);
    await migrate(door, await loadMigrations());
    const node = await openTestStore(url, { poolMax: 1 });
    try {
      const rows = [['shape', 'size', 'KB', 'ms', 'ns/byte', 'ratio']];
      for (const { name, sizes, shape } of shapes) {
        const figures: { size: number; bytes: number; ms: number }[] = [];
        for (const size of sizes) figures.push({ size, ...(await measure(node, ...shape(size))) });
        const costs = figures.map(({ ms, bytes }) => (ms * 1e6) / bytes);
        const ratio = (Math.max(...costs) / Math.min(...costs)).toFixed(1);
        figures.forEach(({ size, bytes, ms }, index) => {
          const cost = (costs[index] ?? Number.NaN).toFixed(0);
          rows.push([name, String(size), (bytes / 1000).toFixed(0), ms.toFixed(1), cost, index === 0 ? ratio : '']);
        });
      }
      process.stdout.write(showTable(rows));
    } finally {
      await node.close();
      await door.close({ deadlineMs: 1_000 });
    }
  });
}

/** Returns the shortest time of several rounds: other work on the machine only adds to it. */
async function measure(node: TestStore, document: string, patch: string): Promise<{ bytes: number; ms: number }> {
  const times: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const { rows } = await node.pool.query(
      `with given as materialized (select $1::jsonb as document, $2::jsonb as patch),
            started as materialized (select document, patch, clock_timestamp() as at from given),
            merged as materialized (select at, pg_column_size(loom_merge_patch(document, patch)) as size from started)
       select 1000 * extract(epoch from clock_timestamp() - at)::float8 as ms from merged where size > 0`,
      [document, patch],
    );
    times.push(rows[0].ms);
  }
  return { bytes: document.length + patch.length, ms: Math.min(...times) };
}
