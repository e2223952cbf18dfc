import { z } from 'zod';
import { backupSchema, restorableBackupSchema, restoreBodySchema } from '../../backup/check/backup-schema.ts';
import {
  auditEntrySchema,
  auditHeadSchema,
  auditMismatchSchema,
  auditPageSchema,
  auditVerdictSchema,
} from '../../domain/audit.ts';
import { restoreReportSchema } from '../../domain/backup.ts';
import {
  backupRunListSchema,
  backupRunSchema,
  deletedBackupSchema,
  storedBackupPageSchema,
  storedBackupSchema,
  storedBackupsStatusSchema,
} from '../../domain/backup-run.ts';
import { receiptSchema } from '../../domain/commit.ts';
import { documentPageSchema, documentSummarySchema } from '../../domain/document.ts';
import { documentsByName, jsonValue } from '../../domain/forms.ts';
import { livenessSchema, readinessSchema } from '../../domain/health/readiness.ts';
import { documentHistorySchema, recordedChangeSchema } from '../../domain/history.ts';
import { deleteRequestSchema, undoRequestSchema } from '../../domain/request.ts';
import { droppedScratchSchema, schemaReportSchema, scratchStateSchema } from '../../domain/state.ts';
import { statusReportSchema } from '../../domain/status.ts';
import { runningOperationSchema } from '../../domain/store.ts';
import { undoRecordSchema, undoReportSchema } from '../../domain/undo.ts';
import { problemSchema } from '../reply/problem.ts';

/** Accepts the text format of Prometheus. */
export const metricsSchema = z.string();

/** Accepts the bytes of a stored backup. */
export const storedBytesSchema = z.string().meta({ format: 'binary' });

/** Accepts the OpenAPI document itself. */
export const openApiSchema = z.looseObject({ openapi: z.string(), paths: z.looseObject({}) });

/** Maps names of the OpenAPI document to schemas. Every body and answer has one; parts that recur have one, too. */
export const components: Readonly<Record<string, z.ZodType>> = {
  Problem: problemSchema,
  JsonValue: jsonValue,
  Documents: documentsByName,
  Receipt: receiptSchema,
  DocumentSummary: documentSummarySchema,
  DocumentPage: documentPageSchema,
  RecordedChange: recordedChangeSchema,
  DocumentHistory: documentHistorySchema,
  AuditHead: auditHeadSchema,
  AuditEntry: auditEntrySchema,
  AuditPage: auditPageSchema,
  AuditMismatch: auditMismatchSchema,
  AuditVerdict: auditVerdictSchema,
  Backup: backupSchema,
  RestorableBackup: restorableBackupSchema,
  RestoreRequest: restoreBodySchema,
  RestoreReport: restoreReportSchema,
  UndoRequest: undoRequestSchema,
  UndoRecord: undoRecordSchema,
  UndoReport: undoReportSchema,
  StoredBackup: storedBackupSchema,
  StoredBackupPage: storedBackupPageSchema,
  StoredBackupsStatus: storedBackupsStatusSchema,
  StoredBytes: storedBytesSchema,
  BackupRun: backupRunSchema,
  BackupRunList: backupRunListSchema,
  DeleteRequest: deleteRequestSchema,
  DeletedBackup: deletedBackupSchema,
  ScratchState: scratchStateSchema,
  DroppedScratch: droppedScratchSchema,
  Liveness: livenessSchema,
  Readiness: readinessSchema,
  RunningOperation: runningOperationSchema,
  StatusReport: statusReportSchema,
  SchemaReport: schemaReportSchema,
  Metrics: metricsSchema,
  OpenApi: openApiSchema,
};
