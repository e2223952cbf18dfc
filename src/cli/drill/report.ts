import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { VerifiedBackup } from '../../backup/offline/verifier.ts';
import type { AuditHead } from '../../domain/audit.ts';
import { makeFolder } from '../file/folder.ts';
import { writeWhole } from '../file/part-file.ts';
import { counted, quoted, sizeText } from '../terminal/text.ts';
import type { StepName, StepResult } from './steps.ts';

/** `report.json`. Its members keep their meaning while `drill_report_version` is 1. */
export interface DrillReport {
  drill_report_version: 1;
  ok: boolean;
  url: string;
  in_place: boolean;
  started_at: string;
  ended_at: string;
  duration_ms: number;
  /** Before the drill; null when status could not be read. */
  node: { version: string; state_key: string; revision: number | null; epoch: string | null } | null;
  /** Null when there was none that holds. */
  backup: {
    /** Null when it was taken from the node. */
    file: string | null;
    state_key: string;
    revision: number;
    epoch: string;
    exported_at: string;
    bytes: number;
    documents: number;
    audit_entries: number;
    state_sha256: string;
    audit_head: AuditHead;
    manifest_sha256: string;
  } | null;
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

export function backupMember(verified: VerifiedBackup, file: string | null): DrillReport['backup'] {
  const { header, manifest } = verified;
  return {
    file,
    state_key: header.state_key,
    revision: header.revision,
    epoch: header.epoch,
    exported_at: header.exported_at,
    bytes: verified.bytes,
    documents: verified.documents,
    audit_entries: verified.auditEntries,
    state_sha256: manifest.state_sha256,
    audit_head: manifest.audit_head,
    manifest_sha256: manifest.sha256,
  };
}

const titles: Record<StepName, string> = {
  status: 'the node is ready',
  backup: 'a backup was taken',
  verify: 'the backup holds, offline',
  plan: 'the node would restore it',
  restore: 'the node has restored it',
  compare: 'what was restored is what was backed up',
  restored_chain: 'the restored audit trail holds',
  live_chain: 'the live audit trail holds',
  remove: 'the scratch state is removed',
  untouched: 'the live state was not touched',
};

/** Writes `report.json` and `summary.md`, each as a whole or not at all. Answers the summary. */
/** Takes an earlier drill's report away: its verdict is not to be read as the next one's. */
export async function removeReport(folder: string): Promise<void> {
  for (const name of ['report.json', 'summary.md']) await rm(join(folder, name), { force: true });
}

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
    '| step | | time | what |',
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

/** A given file need not end in the living trail: the detail says whether it does. */
function titleOf({ step }: StepResult, { backup }: DrillReport): string {
  const isFresh = backup !== null && backup.file === null;
  return step === 'live_chain' && isFresh ? `${titles[step]}, and the backup ends in it` : titles[step];
}

function rowOf({ outcome, duration_ms, detail, code }: StepResult, title: string): string {
  const shown = outcome === 'ok' ? 'ok' : outcome === 'failed' ? '**FAILED**' : 'skipped';
  const what = `${outcome === 'failed' && code !== null ? `\`${code}\`: ` : ''}${detail}`;
  const cell = what.replace(/\s+/g, ' ').replaceAll('|', '\\|');
  return `| ${title} | ${shown} | ${(duration_ms / 1000).toFixed(2)} s | ${cell} |`;
}

function faultsOf({ ok, steps }: DrillReport): string[] {
  if (ok) return ['Every step that this drill has was taken, and held.'];
  const failed = steps.filter(({ outcome }) => outcome === 'failed').map(({ step }) => step);
  const which = failed.length === 0 ? 'It was stopped' : `Failed: ${failed.join(', ')}`;
  return [`${which}. **Nothing here says that this backup can be restored.**`];
}
