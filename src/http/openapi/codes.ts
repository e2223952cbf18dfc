import type { ErrorCode } from '../../errors.ts';

// These lists group the error codes that routes of a kind have in common. The catalogue has the status of each.

/** Lists the codes of every route: of a request that is not valid before its route is known, and of a failing node. */
export const everyRoute = [
  'malformed_request',
  'invalid_parameter',
  'token_in_query',
  'request_timeout',
  'expectation_failed',
  'headers_too_large',
  'internal',
] as const satisfies ErrorCode[];

/** Lists the codes of every route that is not a probe: of a node without memory or connections, or near its end. */
export const servedRoute = ['node_busy', 'draining'] as const satisfies ErrorCode[];

export const tokenRoute = ['unauthenticated', 'forbidden', 'too_many_attempts'] as const satisfies ErrorCode[];

/** Lists the codes of routes that need a usable database. Any query of theirs can fail. */
export const gatedRoute = [
  'starting',
  'schema_behind',
  'schema_ahead',
  'database_unavailable',
  'state_busy',
  'state_inconsistent',
  'audit_chain_broken',
] as const satisfies ErrorCode[];

/** Lists the codes of a body. */
export const jsonBody = [
  'invalid_json',
  'unsupported_media_type',
  'invalid_utf8',
  'invalid_number',
  'invalid_string',
  'duplicate_member',
  'nested_too_deeply',
  'body_too_large',
  'document_too_large',
] as const satisfies ErrorCode[];

/** Lists the codes of a commit, beyond those of its body. */
export const commit = [
  'precondition_failed',
  'audit_entry_too_large',
  'commit_too_costly',
  'idempotency_key_outdated',
  'idempotency_key_reused',
  'queue_full',
  'commit_outcome_unknown',
] as const satisfies ErrorCode[];

/** Lists the codes of what restores and undos have in common. */
export const operation = [
  ...jsonBody,
  'confirm_missing',
  'revision_mismatch',
  'restore_in_progress',
  'audit_entry_too_large',
  'streams_busy',
  'commit_outcome_unknown',
] as const satisfies ErrorCode[];

/** Lists the codes of a backup that cannot be restored. */
export const backup = [
  'backup_empty',
  'backup_incomplete',
  'backup_malformed',
  'backup_unverified',
  'backup_digest_mismatch',
  'backup_count_mismatch',
  'backup_chain_broken',
  'backup_duplicate_document',
  'backup_version_unknown',
  'backup_schema_newer',
  'invalid_document_name',
] as const satisfies ErrorCode[];

/** Lists the codes of routes that read or change the backup store. */
export const backupStore = ['store_unreachable', 'store_refused', 'store_failed'] as const satisfies ErrorCode[];

/** Lists the codes of routes that read the content of a stored backup. */
export const storedBackup = [
  ...backupStore,
  'store_not_configured',
  'stored_backup_not_found',
  'stored_backup_missing',
  'stored_backup_damaged',
] as const satisfies ErrorCode[];
