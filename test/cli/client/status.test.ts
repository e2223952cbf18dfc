import { afterEach, expect, test } from 'vitest';
import { status } from '../../../src/cli/status.ts';
import { runCommand } from '../../setup/cli/command.ts';
import { type FakeNode, startFakeNode, statusReport } from '../../setup/cli/fake-node.ts';

let node: FakeNode | undefined;
afterEach(() => node?.close());

async function textOf(more: Record<string, unknown>): Promise<string> {
  node = await startFakeNode({ '/v1/admin/status': statusReport(more) });
  const env = { LOOM_ADMIN_TOKEN: 'admin-token-of-the-status-test', LOOM_URL: node.url };
  return (await runCommand(status, [], { env })).stdout;
}

test('status shows on one screen why a node is not ready, who waits, who holds a lock, and what is not as it should be', async () => {
  const text = await textOf({
    ready: { ok: false, checks: { http: 'ok', database: 'damaged', schema: 'ok' }, reason: 'db_damaged' },
    ready_detail: 'The role "app" may not insert into loom_audit. GRANT INSERT.',
    state: {
      ...Object(statusReport().state),
      epoch_changes: 2,
      last_epoch_change: { at: '2026-01-30T12:00:00Z', reason: 'lineage' },
    },
    last_backup_at: '2027-01-31T12:00:00Z',
    last_restore_at: '2026-01-01T12:00:00Z',
    future_times: ['last_backup_at'],
    pool: { total: 10, idle: 1, waiting: 4, max: 10, streams: { used: 5, max: 5 } },
    queue: { depth: 17, max: 4096 },
    connections: { open: 120, idle: 100, max: 10_000 },
    locks: { state: { pid: 77, application_name: 'loom', since: '2026-01-31T11:00:00Z' }, restore: null },
  });
  expect(text.split('\n').length).toBeLessThan(25);
  expect(text).toMatch(/^ready +NO: db_damaged\n +The role "app" may not insert into loom_audit\. GRANT INSERT\.$/m);
  expect(text).toMatch(/^ +2 new epochs because the database had LOST COMMITS, the last at 2026-01-30T12:00:00Z /m);
  expect(text).toMatch(/^last backup +2027-01-31T12:00:00Z, in the FUTURE: the clock of the database has gone back$/m);
  expect(text).toMatch(/^last restore +2026-01-01T12:00:00Z, \d+ days ago$/m);
  expect(text).toMatch(
    /^load +connections of clients: 120 of 10000; database: 9 of 10 in use, 4 waiting; streams: 5 of 5; commits waiting: 17 of 4096$/m,
  );
  expect(text).toMatch(/^locks +state row held since 2026-01-31T11:00:00Z by process 77 of PostgreSQL \(loom\)$/m);
});

test('status shows what a node of an earlier version answers', async () => {
  const text = await textOf({});
  expect(text).toMatch(/^ready +yes$/m);
  expect(text).toMatch(/^locks +\?$/m);
  expect(text).not.toMatch(/undefined|NaN/);
});
