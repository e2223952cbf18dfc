import type { StatusReport } from '../domain/status.ts';
import { createClientCommand } from './client/client-command.ts';
import { counted, durationText, labelled, quoted, type Row, sizeText, table } from './terminal/text.ts';

/** Shows the status of a node. The exit code is 0 when the node is ready, and 1 when it is not. */
export const status = createClientCommand({
  name: 'status',
  help: {
    summary: 'show the status of a node',
    synopsis: '[options]',
    about: 'Shows readiness, versions, state, audit trail, the last backup and restore, and what can be undone.',
    succeeds: 'the node is ready',
    fails: 'the node is not ready, or did not answer',
    examples: ['node dist/main.js status', 'node dist/main.js status --json | jq .state.revision'],
  },
  options: {},
  operandCount: 0,
  run: async ({ client }) => {
    const report = await client.readStatus();
    return { exitCode: report.ready.ok ? 0 : 1, text: textOf(report), json: report };
  },
});

function textOf(report: StatusReport): string {
  const { ready, state, audit, schema, database } = report;
  return table([
    ['ready', ready.ok ? 'yes' : `NO: ${shown(ready.reason ?? null)}`],
    ['node', `version ${report.version}, up for ${durationText(report.uptime_seconds)}`],
    [
      'database',
      database.ok
        ? `PostgreSQL ${shown(database.version)}, ${shown(database.latency_ms)} ms`
        : `NOT ok: ${shown(database.code ?? null)}`,
    ],
    ['schema', `version ${shown(schema.version)}; this node supports up to ${schema.supported}`],
    ['state', `${quoted(report.state_key)} at revision ${shown(state.revision)}, epoch ${shown(state.epoch)}`],
    ['documents', `${shown(state.documents)}, ${state.bytes === null ? '?' : sizeText(state.bytes)}`],
    ['audit', `${shown(audit.entries)} entries; ${checkText(audit.last_check)}`],
    ['last backup', sinceText(report, report.last_backup_at)],
    ['last restore', sinceText(report, report.last_restore_at)],
    ...listed('in progress', report.operations, operationText, 'nothing'),
    ...listed('can be undone', report.undo?.kept?.filter(isWorthShowing), keptText, 'nothing'),
    ...listed('scratch states', report.scratch_states, scratchText, 'none'),
  ]);
}

/** Bounds each list, so that it does not push the other rows off the screen. */
const MAX_LISTED = 20;

function listed<T>(label: string, list: T[] | null | undefined, textOfOne: (one: T) => string, none: string): Row[] {
  if (list === undefined || list === null) return [[label, '?']];
  const more = list.length > MAX_LISTED ? [`… (${list.length - MAX_LISTED} more: see --json)`] : [];
  return labelled(label, list.length === 0 ? [none] : [...list.slice(0, MAX_LISTED).map(textOfOne), ...more]);
}

function checkText(check: StatusReport['audit']['last_check']): string {
  if (check === null) return 'not checked by this node yet';
  const { ok, by, checked_at: at, from_seq: from, to_seq: to, first_bad_seq: bad } = check;
  const verdict = ok ? `found valid at ${at}` : `FOUND BROKEN at ${at}${bad === null ? '' : ` at entry ${bad}`}`;
  const covered = to < from ? 'no entries' : from === to ? `entry ${to}` : `entries ${from} to ${to}`;
  return `${verdict} (${covered}, by a ${by === 'verify' ? 'verification' : 'backup'})`;
}

/** Returns `never` for null only if the database answered. */
function sinceText({ state }: StatusReport, at: string | null): string {
  return at ?? (state.revision === null ? '?' : 'never');
}

function operationText({ kind, phase, started_at, documents, bytes }: StatusReport['operations'][number]): string {
  return `${kind}${phase === undefined ? '' : ` (${phase})`} since ${started_at}: ${counted(documents, 'document')}, ${sizeText(bytes)}`;
}

type Kept = NonNullable<NonNullable<StatusReport['undo']>['kept']>[number];

/** Selects the newest undo record, and all that replaced something. */
function isWorthShowing({ substantial }: Kept, index: number): boolean {
  return index === 0 || substantial;
}

function keptText({ kind, event_id, taken_at, documents, audit_entries, bytes }: Kept): string {
  const entries = audit_entries === 0 ? '' : `, ${counted(audit_entries, 'audit entry')}`;
  return `${kind} ${event_id} of ${taken_at}: ${counted(documents, 'document')}${entries}, ${sizeText(bytes)} kept`;
}

type Scratch = NonNullable<StatusReport['scratch_states']>[number];

function scratchText({ state_key, created_at, documents, bytes }: Scratch): string {
  return `${quoted(state_key)} of ${created_at}: ${counted(documents, 'document')}, ${sizeText(bytes)}`;
}

function shown(value: string | number | null): string {
  return value === null ? '?' : String(value);
}
