import { expect, it } from 'vitest';
import { restoreText } from '../../src/cli/plan-text.ts';
import { EMPTY_HEAD } from '../../src/domain/audit.ts';
import type { RestoreReport } from '../../src/domain/backup.ts';

const parted =
  "The backup's audit trail and the live one part at entry 7: what is missing is imported, and nothing is taken out.";

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
    scratch: null,
    warnings,
  };
}

it('where the trails part stands with the audit trail, and once', () => {
  const lines = restoreText(planWith({ imported: 2, parted_at: 7 }, [parted, 'Another warning.'])).split('\n');
  const at = lines.findIndex((line) => line.startsWith('audit trail'));
  expect(lines.slice(at, at + 3)).toEqual([
    'audit trail  2 entries imported',
    '             the two audit trails differ from entry 7 on: what is missing is imported, and nothing is taken out',
    'backup       verified',
  ]);
  expect(lines.filter((line) => line.startsWith('warning'))).toEqual(['warning      Another warning.']);
});

it('trails that do not part have no such line, and no warning is swallowed', () => {
  const text = restoreText(planWith({ adopted: 1 }, ['One warning.']));
  expect(text).toContain('audit trail  1 entry adopted as they are\nbackup ');
  expect(text).toContain('\nwarning      One warning.\n');
});
