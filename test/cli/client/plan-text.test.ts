import { expect, it } from 'vitest';
import { restoreText } from '../../../src/cli/client/plan-text.ts';
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
