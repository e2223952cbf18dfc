import { expect, it } from 'vitest';
import { restoreQuestion, restoreText } from '../../../src/cli/client/plan-text.ts';
import { EMPTY_HEAD } from '../../../src/domain/audit.ts';
import type { RestoreReport } from '../../../src/domain/backup.ts';

const differ =
  'The audit trails of the backup and of the live state differ from entry 7 on. Missing entries are imported; none is removed.';

function planWith(audit: Partial<RestoreReport['audit']>, warnings: string[]): RestoreReport {
  const none = { adopted: 0, imported: 0, replaced: 0, parted_at: null };
  return {
    dry_run: true,
    restored_at: null,
    replaced_state: true,
    truncated_audit: false,
    imported_audit_count: 0,
    replaced_audit_count: 0,
    verified: true,
    revision: 9,
    epoch: null,
    based_on_revision: 8,
    event_id: null,
    documents: { added: 0, changed: 0, removed: 0, unchanged: 1 },
    document_names: { added: [], changed: [], removed: [], truncated: false },
    audit: { ...none, previous_head: EMPTY_HEAD, backup_head: EMPTY_HEAD, head: null, ...audit },
    backup: {
      instance_id: 'one',
      state_key: 'default',
      version: 1,
      schema_version: 2,
      taken_at: '2026-01-01T00:00:00.000000Z',
      revision: 5,
    },
    live: { instance_id: 'one', state_key: 'default', revision: 8 },
    instance_differs: false,
    stored_backup: null,
    selected_documents: null,
    scratch: null,
    warnings,
  };
}

it('a warning of the node is shown once, in its own words, after the figures', () => {
  const lines = restoreText(planWith({ imported: 2, parted_at: 7 }, [differ, 'Another warning.'])).split('\n');
  expect(lines).toContain('audit trail  2 entries imported');
  expect(lines.filter((line) => line.startsWith('warning'))).toEqual([
    `warning      ${differ}`,
    'warning      Another warning.',
  ]);
  expect(lines.filter((line) => line.includes('entry 7'))).toHaveLength(1);
});

it('a plan for single documents names them first, and the question does', () => {
  const plan = { ...planWith({}, []), selected_documents: ['a', 'b*', 'c', 'd', 'e', 'f', 'g'] };
  expect(restoreText(plan).split('\n').slice(0, 7)).toEqual([
    'selected     "a"',
    '             "b*"',
    '             "c"',
    '             "d"',
    '             "e"',
    '             … (2 more)',
    'documents    0 added, 0 changed, 0 removed, 1 unchanged',
  ]);
  expect(restoreText(plan)).toContain('audit trail  not imported\n');
  const node = { url: 'http://node', version: '1', stateKey: 'default', instanceId: 'one' };
  const backup = { instanceId: 'one', stateKey: 'default', schemaVersion: 2, revision: 5, takenAt: null };
  const { summary } = restoreQuestion(plan, { node, backup, isForeign: false });
  expect(summary).toContain('Restore only "a" and 6 more out of the backup of "default"');
});
