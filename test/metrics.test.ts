import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { createSampledReader } from '../src/http/timed-reader.ts';
import { createMetrics, type Metrics, type MetricsOptions } from '../src/metrics.ts';
import { createFakeStoredBackups } from './setup/backups/fake-stored-backups.ts';
import { readDeployFile } from './setup/deploy/files.ts';
import { runTool, testWithTool } from './setup/deploy/tools.ts';
import { idleNode } from './setup/values/idle-metrics.ts';

let metrics: Metrics | undefined;

afterEach(() => metrics?.close());

function start(options?: MetricsOptions): Metrics {
  metrics = createMetrics(options);
  metrics.watch({
    ...idleNode,
    readSizes: () => Promise.resolve({ databaseBytes: 8_000_000, undoBytes: 17 }),
    readStoredBackups: () => createFakeStoredBackups().observe(),
  });
  return metrics;
}

async function scrape(from: Metrics): Promise<string> {
  return (await from.scrape()).text;
}

const build = { version: '1.2.3', nodeVersion: 'v24.0.0', schema: 7 };

test('the series that alarms watch exist with 0 before the first failure', async () => {
  const text = await scrape(start({ build }));
  expect(text).toContain('loom_build_info{version="1.2.3",node_version="v24.0.0",schema="7"} 1\n');
  for (const series of [
    'loom_log_lines_dropped_total 0',
    ...['2xx', '3xx', '4xx', '5xx'].map((kind) => `loom_http_responses_total{class="${kind}"} 0`),
    ...['backup', 'restore', 'plan', 'undo', 'verify'].map(
      (kind) => `loom_operations_total{kind="${kind}",outcome="failed"} 0`,
    ),
    'loom_last_backup_bytes NaN',
    'loom_database_bytes 8000000',
    'loom_undo_records_bytes 17',
  ])
    expect(text.toLowerCase()).toContain(`${series}\n`.toLowerCase());
});

test('answers count by class, except those of probes and scrapes', async () => {
  const counting = start();
  for (const [route, status] of [
    ['/v1/state', 200],
    ['/v1/state', 503],
    ['/ready', 503],
    ['/metrics', 200],
    ['none', 404],
  ] as const)
    counting.countRequest({ method: 'GET', route, status, durationMs: 1, isProbe: /ready|metrics/.test(route) });
  const text = await scrape(counting);
  for (const [kind, count] of [
    ['2xx', 1],
    ['4xx', 1],
    ['5xx', 1],
  ])
    expect(text).toContain(`loom_http_responses_total{class="${kind}"} ${count}\n`);
});

test('the size of the last backup and the dropped log lines are the current ones', async () => {
  let dropped = 0;
  const counting = start({ droppedLines: () => dropped });
  counting.recordBackup(5_000);
  counting.recordBackup(4_000);
  dropped = 3;
  expect(await scrape(counting)).toContain('loom_log_lines_dropped_total 3\n');
  dropped = 4;
  const text = await scrape(counting);
  expect(text).toContain('loom_log_lines_dropped_total 4\n');
  expect(text).toContain('loom_last_backup_bytes 4000\n');
});

test('a sampled read succeeds at most once in its interval, and is repeated after a failure', async () => {
  let reads = 0;
  const read = createSampledReader(async () => {
    reads += 1;
    if (reads === 1) throw new Error('no database');
    return reads;
  }, 60_000);
  expect([await read(), await read(), await read(), await read()]).toEqual([undefined, 2, 2, 2]);
  expect(reads).toBe(2);
});

const page = readFileSync(fileURLToPath(new URL('../docs/operations.md', import.meta.url)), 'utf8');
const rules = readDeployFile('prometheus/loom.rules.yml');

interface Rules {
  groups: { rules: { alert: string; expr: string }[] }[];
}

describe('the alarm rules of docs/deploy', () => {
  const expressions = (parse(rules) as Rules).groups.flatMap((group) => group.rules.map(({ expr }) => expr));

  test('name only series of the node, which exist before the first failure', async () => {
    const text = await scrape(start({ build }));
    const named = expressions.flatMap((expression) =>
      [...expression.matchAll(/\bloom_[a-z_]+/g)].map(([name]) => name),
    );
    expect(expressions.length).toBeGreaterThanOrEqual(12);
    expect(named.filter((name) => !new RegExp(`^${name}(?:\\{| )`, 'm').test(text))).toEqual([]);
    expect(rules).toContain('up{job="loom"} == 0');
    expect(rules).toContain('absent(loom_ready)');
  });

  test('have the names and expressions of the table in docs/operations.md', () => {
    const table = [...page.matchAll(/^\| `(Loom\w+)`.* \| `([^`]+)`.* \|$/gm)];
    expect(table.map(([, name]) => name)).toEqual([...rules.matchAll(/alert: (\w+)/g)].map(([, name]) => name));
    for (const [index, [, , expression = '']] of table.entries()) expect(expressions[index]).toContain(expression);
  });
});

testWithTool('promtool', 'promtool finds no fault in the metrics', async () => {
  const counting = start({ build });
  counting.countRequest({ method: 'GET', route: '/v1/state', status: 200, durationMs: 1, isProbe: false });
  counting.countBatch({ commits: 3, durationMs: 2 });
  expect(runTool('promtool', ['check', 'metrics'], await scrape(counting))).toBe('');
});
