import { lstat, open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { RestoreReport } from '../../domain/backup.ts';
import type { StatusReport } from '../../domain/status.ts';
import { oneLine, printable } from '../../json/printable.ts';
import { limits } from '../../limits.ts';
import { failureMembers } from '../failure.ts';
import { toBackupMembers } from '../file/backup-members.ts';
import { FileFault } from '../file/file-fault.ts';
import { makeFolder } from '../file/folder.ts';
import { writeWhole } from '../file/part-file.ts';
import { counted, quoted, sizeText } from '../terminal/text.ts';
import { type DrillFacts, type StepResult, titles } from './steps.ts';

/** The content of `report.json`. Its members keep their meaning while `drill_report_version` is 1. */
export type DrillReport = ReturnType<typeof createReport>;

interface Drilled {
  file: string | undefined;
  inPlace: boolean;
  results: StepResult[];
  facts: DrillFacts;
}

/** Creates the report of a drill on the node at `url`. */
export function createReport(drilled: Drilled, url: string, startedAt: Date, wasStopped: boolean) {
  const { file, inPlace, results, facts } = drilled;
  const { before, backup, restored, scratchKey } = facts;
  const endedAt = new Date();
  return {
    drill_report_version: 1,
    ok: !wasStopped && results.every(({ outcome }) => outcome !== 'failed'),
    url,
    in_place: inPlace,
    started_at: startedAt.toISOString(),
    ended_at: endedAt.toISOString(),
    duration_ms: endedAt.getTime() - startedAt.getTime(),
    /** The node before the drill; null when status could not be read. */
    node: before === undefined ? null : nodeMember(before),
    /** Null when no backup was verified. */
    backup: backup === undefined ? null : toBackupMembers(backup, file ?? null),
    /** Null when nothing was restored. Its scratch key is null for a drill in place. */
    restored: restored === undefined ? null : restoredMember(restored, inPlace ? null : scratchKey),
    steps: results,
  };
}

function nodeMember({ version, state_key, state: { revision, epoch } }: StatusReport) {
  return { version, state_key, revision, epoch };
}

function restoredMember({ documents, revision, scratch, audit }: RestoreReport, scratchKey: string | null) {
  return {
    scratch_key: scratchKey,
    documents: documents.added + documents.changed + documents.unchanged,
    revision,
    state_sha256: scratch?.state_sha256 ?? null,
    audit_head: scratch?.audit_head ?? audit.head,
  };
}

/** Returns the object that `drill --json` writes: the report and, after a failure, the first step that failed. */
export function drillAnswer(report: DrillReport): object {
  if (report.ok) return { ok: true, report };
  const failed = report.steps.find(({ outcome }) => outcome === 'failed');
  if (failed === undefined) return { ...failureMembers('interrupted', 'The drill was stopped.'), report };
  return { ...failureMembers(failed.code ?? 'internal', failed.detail, { step: failed.step }), report };
}

const REPORT = 'report.json';
/** The backup that `--keep` keeps. */
export const KEPT = 'backup.json';
const SUMMARY = 'summary.md';
const SUMMARY_TITLE = '# Restore drill: ';

/**
 * Asserts that this drill would replace only what a drill has written: a report, its summary, a kept backup. Throws a
 * FileFault for a file that something else has made.
 */
export async function assertReplaceable(folder: string, keepsBackup: boolean): Promise<void> {
  const kinds: (readonly [name: string, isOwn: (start: string) => boolean])[] = [
    [REPORT, isReport],
    [SUMMARY, (start) => start.startsWith(SUMMARY_TITLE)],
    ...(keepsBackup ? ([[KEPT, (start: string) => start.startsWith('{"loom_backup_version"')]] as const) : []),
  ];
  for (const [name, isOwn] of kinds) {
    const path = join(folder, name);
    if (!(await isAbsentOr(path, isOwn)))
      throw new FileFault(
        path,
        'No drill wrote this file, so the drill does not replace it. Name another folder with --out.',
      );
  }
}

/** Reads the start of a file. A link does not count: the drill replaces the link, and never writes to its target. */
async function isAbsentOr(path: string, isOwn: (start: string) => boolean): Promise<boolean> {
  const found = await lstat(path).catch(() => undefined);
  if (found === undefined || found.isSymbolicLink()) return true;
  if (!found.isFile()) return false;
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(
      Buffer.alloc(limits.maxDrillReportBytes),
      0,
      limits.maxDrillReportBytes,
    );
    return isOwn(buffer.toString('utf8', 0, bytesRead));
  } finally {
    await file.close();
  }
}

/** Every report of a drill has the member `ok`. */
function isReport(text: string): boolean {
  try {
    return typeof Reflect.get(Object(JSON.parse(text)), 'drill_report_version') === 'number';
  } catch {
    return false;
  }
}

/** Removes the report of an earlier drill. */
export async function removeReport(folder: string): Promise<void> {
  for (const name of [REPORT, SUMMARY]) await rm(join(folder, name), { force: true });
}

/** Writes `report.json` and `summary.md`, each completely or not at all. */
export async function writeReport(folder: string, report: DrillReport): Promise<void> {
  await makeFolder(folder);
  await writeWhole(join(folder, REPORT), `${printable(JSON.stringify(report, null, 2))}\n`);
  await writeWhole(join(folder, SUMMARY), summaryOf(report));
}

/** Returns the report as a page of Markdown. Each line escapes control characters. */
export function summaryOf(report: DrillReport): string {
  const { node, backup } = report;
  const lines = [
    `${SUMMARY_TITLE}${report.ok ? 'passed' : 'FAILED'}`,
    '',
    `${report.started_at}, ${(report.duration_ms / 1000).toFixed(1)} s, ${report.url}${report.in_place ? ', in place' : ''}`,
    ...(node === null ? [] : [nodeText(node)]),
    ...(backup === null ? [] : ['', backupText(backup)]),
    '',
    '| step | | time | detail |',
    '|---|---|---|---|',
    ...report.steps.map((step) => rowOf(step, titleOf(step, report))),
    '',
    ...faultsOf(report),
  ];
  return `${lines.map(oneLine).join('\n').trimEnd()}\n`;
}

function nodeText({ version, state_key, revision }: NonNullable<DrillReport['node']>): string {
  return `Node ${version}, state ${quoted(state_key)} at revision ${revision ?? '?'} before the drill.`;
}

function backupText(backup: NonNullable<DrillReport['backup']>): string {
  const origin = backup.file === null ? 'Taken from the node' : `The file ${quoted(backup.file)}`;
  return (
    `${origin}: ${counted(backup.documents, 'document')} and ${counted(backup.audit_entries, 'audit entry')} of revision ${backup.revision}, ` +
    `${sizeText(backup.bytes)}, exported ${backup.exported_at}. State digest ${backup.state_sha256}; audit head: entry ` +
    `${backup.audit_head.seq}, ${backup.audit_head.hash}.`
  );
}

/** Returns the title of a step. Only a fresh backup must end in the live trail; for a file, see the detail. */
function titleOf({ step }: StepResult, { backup }: DrillReport): string {
  const isFresh = backup !== null && backup.file === null;
  return step === 'live_chain' && isFresh ? `${titles[step]}, and contains the end of the backup` : titles[step];
}

function rowOf({ outcome, duration_ms, detail, code }: StepResult, title: string): string {
  const shown = outcome === 'failed' ? '**FAILED**' : outcome;
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
