/**
 * Lists LOOM's tables, each with the rights that a serving node uses. A test compares the lists in this file with the
 * migrations. docs/operations.md tells operators to grant a few more.
 */
export const tableRights: Record<string, readonly string[]> = {
  loom_meta: ['select'],
  loom_state: ['select', 'insert', 'update', 'delete'],
  loom_document: ['select', 'insert', 'update', 'delete'],
  loom_audit: ['select', 'insert'],
  loom_scratch: ['select', 'insert', 'update', 'delete'],
  loom_snapshot: ['select', 'insert', 'delete'],
  loom_snapshot_document: ['select', 'insert', 'delete'],
  loom_snapshot_audit: ['select', 'insert', 'delete'],
  loom_lineage: ['select', 'insert', 'update', 'delete'],
  loom_change: ['select', 'insert', 'update', 'delete'],
  loom_removal: ['select'],
  loom_backup_run: ['select', 'insert', 'update', 'delete'],
  loom_backup_run_total: ['select', 'insert', 'update'],
  loom_backup_claim: ['select', 'insert', 'update'],
};

/** Lists LOOM's functions and aggregates by name, because a migration may change the arguments of one. */
export const functionNames: readonly string[] = [
  'loom_audit_note_changes',
  'loom_audit_note_restore',
  'loom_audit_refuse_rewrite',
  'loom_chain_after',
  'loom_chain_hash',
  'loom_chain_step',
  'loom_change_work',
  'loom_check_lineage',
  'loom_commit',
  'loom_commit_receipt',
  'loom_current_lineage',
  'loom_earlier_answer',
  'loom_entry_changes',
  'loom_entry_is_told',
  'loom_fold',
  'loom_fold_step',
  'loom_index_changes',
  'loom_merge',
  'loom_merge_flat',
  'loom_merge_patch',
  'loom_precondition_holds',
  'loom_rebuild_changes',
  'loom_removal_check_named',
  'loom_remove_entries',
  'loom_share_rights',
  'loom_value_sha256',
  'loom_wrong_merges',
];
