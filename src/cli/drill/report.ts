import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { AuditHead } from '../../domain/audit.ts';
import type { FailureMembers } from '../failure.ts';
import { type BackupMembers, toBackupMembers } from '../file/backup-members.ts';
import { makeFolder } from '../file/folder.ts';
import { writeWhole } from '../file/part-file.ts';
import { counted, quoted, sizeText } from '../terminal/text.ts';
import type { DrillFacts } from './facts.ts';
import type { StepName, StepResult } from './steps.ts';

/** The content of `report.json`. Its members keep their meaning while `drill_report_version` is 1. */
export interface DrillReport {
  drill_report_version: 1;
  ok: boolean;
  url: string;
  in_place: boolean;
  started_at: string;
  ended_at: string;
  duration_ms: number;
  /** The node before the drill; null when status could not be read. */
  node: { version: string; state_key: string; revision: number | null; epoch: string | null } | null;
  /** Null when no backup was verified. */
  backup: BackupMembers | null;
  /** Null when nothing was restored. */
  restored: {
    /** Null for a drill in place. */
    scratch_key: string | null;
    documents: number;
    revision: number;
    state_sha256: string | null;
    audit_head: AuditHead | null;
  } | null;
  steps: StepResult[];
}

export interface ReportInput {
  file: string | undefined;
  inPlace: boolean;
  url: string;
  startedAt: Date;
  wasStopped: boolean;
  results: StepResult[];
  facts: DrillFacts;
}

/** Creates the report of a drill from what its steps found. */
export function createReport({ file, inPlace, url, startedAt, wasStopped, results, facts }: ReportInput): DrillReport {
  const { backup } = facts;
  const endedAt = new Date();
  return {
    drill_report_version: 1,
    ok: !wasStopped && results.every(({ outcome }) => outcome !== 'failed'),
    url,
    in_place: inPlace,
    started_at: startedAt.toISOString(),
    ended_at: endedAt.toISOString(),
    duration_ms: endedAt.getTime() - startedAt.getTime(),
    node: nodeMember(facts),
    backup: backup === undefined ? null : toBackupMembers(backup, file ?? null),
    restored: restoredMember(facts, inPlace),
    steps: results,
  };
}

function nodeMember({ before }: DrillFacts): DrillReport['node'] {
  if (before === undefined) return null;
  const { version, state_key, state } = before;
  return { version, state_key, revision: state.revision, epoch: state.epoch };
}

function restoredMember({ restored, scratchKey }: DrillFacts, inPlace: boolean): DrillReport['restored'] {
  if (restored === undefined) return null;
  const { documents, revision, scratch, audit } = restored;
  return {
    scratch_key: inPlace ? null : scratchKey,
    documents: documents.added + documents.changed + documents.unchanged,
    revision,
    state_sha256: scratch?.state_sha256 ?? null,
    audit_head: scratch?.audit_head ?? audit.head,
  };
}

/** Returns what `drill --json` writes: the report and, after a failure, what failed first. */
export function drillAnswer(report: DrillReport): { ok: boolean; report: DrillReport } {
  if (report.ok) return { ok: true, report };
  const failed = report.steps.find(({ outcome }) => outcome === 'failed');
  const failure: FailureMembers = {
    ok: false,
    code: failed === undefined ? 'interrupted' : (failed.code ?? 'internal'),
    detail: failed?.detail ?? 'The drill was stopped.',
    place: failed === undefined ? {} : { step: failed.step },
    request_id: null,
  };
  return { ...failure, report };
}

const titles: Record<StepName, string> = {
  status: 'the node is ready',
  backup: 'a backup was taken',
  verify: 'the backup is verified, offline',
  plan: 'the node would restore it',
  restore: 'the node has restored it',
  compare: 'the restored state matches the backup',
  restored_chain: 'the restored audit chain is valid',
  live_chain: 'the live audit chain is valid',
  remove: 'the scratch state is removed',
  untouched: 'the live state was not changed',
};

/** Removes the report of an earlier drill. */
export async function removeReport(folder: string): Promise<void> {
  for (const name of ['report.json', 'summary.md']) await rm(join(folder, name), { force: true });
}

/** Writes `report.json` and `summary.md`, each completely or not at all. Resolves with the summary. */
export async function writeReport(folder: string, report: DrillReport): Promise<string> {
  await makeFolder(folder);
  const summary = summaryOf(report);
  await writeWhole(join(folder, 'report.json'), `${JSON.stringify(report, null, 2)}\n`);
  await writeWhole(join(folder, 'summary.md'), summary);
  return summary;
}

function summaryOf(report: DrillReport): string {
  const { node, backup } = report;
  const lines = [
    `# Restore drill: ${report.ok ? 'passed' : 'FAILED'}`,
    '',
    `${report.started_at}, ${(report.duration_ms / 1000).toFixed(1)} s, ${report.url}${report.in_place ? ', in place' : ''}`,
    ...(node === null
      ? []
      : [
          `Node ${node.version}, state ${quoted(node.state_key)} at revision ${node.revision ?? '?'} before the drill.`,
        ]),
    ...(backup === null ? [] : ['', backupText(backup)]),
    '',
    '| step | | time | detail |',
    '|---|---|---|---|',
    ...report.steps.map((step) => rowOf(step, titleOf(step, report))),
    '',
    ...faultsOf(report),
  ];
  return `${lines.join('\n').trimEnd()}\n`;
}

function backupText(backup: NonNullable<DrillReport['backup']>): string {
  const origin = backup.file === null ? 'Taken from the node' : `The file ${quoted(backup.file)}`;
  return (
    `${origin}: ${counted(backup.documents, 'document')} and ${counted(backup.audit_entries, 'audit entry', 'audit entries')} of revision ${backup.revision}, ` +
    `${sizeText(backup.bytes)}, exported ${backup.exported_at}. State digest ${backup.state_sha256}; audit head: entry ` +
    `${backup.audit_head.seq}, ${backup.audit_head.hash}.`
  );
}

/** Returns the title of a step. A given file need not end in the live trail: the detail says whether it does. */
function titleOf({ step }: StepResult, { backup }: DrillReport): string {
  const isFresh = backup !== null && backup.file === null;
  return step === 'live_chain' && isFresh ? `${titles[step]}, and contains the end of the backup` : titles[step];
}

function rowOf({ outcome, duration_ms, detail, code }: StepResult, title: string): string {
  const shown = outcome === 'ok' ? 'ok' : outcome === 'failed' ? '**FAILED**' : 'skipped';
  const what = `${outcome === 'failed' && code !== null ? `\`${code}\`: ` : ''}${detail}`;
  const cell = what.replace(/\s+/g, ' ').replaceAll('|', '\\|');
  return `| ${title} | ${shown} | ${(duration_ms / 1000).toFixed(2)} s | ${cell} |`;
}

function faultsOf({ ok, steps }: DrillReport): string[] {
  if (ok) return ['Every step of this drill succeeded.'];
  const failed = steps.filter(({ outcome }) => outcome === 'failed').map(({ step }) => step);
  const which = failed.length === 0 ? 'It was stopped' : `Failed: ${failed.join(', ')}`;
  return [`${which}. **This drill does not prove that the backup can be restored.**`];
}
