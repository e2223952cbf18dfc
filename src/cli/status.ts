import type { StatusReport } from '../domain/status.ts';
import { createClientCommand } from './client/client-command.ts';
import { ageText, counted, durationText, labelled, quoted, type Row, sizeText, table } from './terminal/text.ts';

/** Shows the status of a node. The exit code is 0 when the node is ready, and 1 when it is not. */
export const status = createClientCommand({
  name: 'status',
  help: {
    summary: 'show the status of a node',
    synopsis: '[options]',
    about:
      'Shows readiness, versions, state, audit trail, the last backup and restore, load, locks, and what can be undone.',
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
    ...labelled('ready', ready.ok ? ['yes'] : [`NO: ${shown(ready.reason ?? null)}`, ...present(report.ready_detail)]),
    ['node', `version ${report.version}, up for ${durationText(report.uptime_seconds)}`],
    [
      'database',
      database.ok
        ? `PostgreSQL ${shown(database.version)}, ${shown(database.latency_ms)} ms`
        : `NOT ok: ${shown(database.code ?? null)}`,
    ],
    ['schema', `version ${shown(schema.version)}; this node supports up to ${schema.supported}`],
    ['state', `${quoted(report.state_key)} at revision ${shown(state.revision)}, epoch ${shown(state.epoch)}`],
    ...labelled('', present(epochChangeText(state))),
    ['documents', `${shown(state.documents)}, ${state.bytes === null ? '?' : sizeText(state.bytes)}`],
    ['audit', `${shown(audit.entries)} entries; ${checkText(audit.last_check)}`],
    ['last backup', sinceText(report, 'last_backup_at')],
    ['last restore', sinceText(report, 'last_restore_at')],
    ...labelled('stored backups', storedTexts(report.stored_backups)),
    ...labelled('load', present(loadText(report))),
    ...labelled('locks', locksText(report.locks)),
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
  const { ok, by, checked_at: at, from_seq: from, to_seq: to, first_bad_seq: bad, reason } = check;
  const verdict = ok ? `found valid at ${at}` : `FOUND BROKEN at ${at}${brokenText(bad, reason)}`;
  const covered = to < from ? 'no entries' : from === to ? `entry ${to}` : `entries ${from} to ${to}`;
  return `${verdict} (${covered}, by a ${by === 'verify' ? 'verification' : 'backup'})`;
}

/** Says where the trail is broken. A node of an earlier version gives no reason. */
function brokenText(seq: number | null, reason: string | undefined): string {
  if (seq !== null) return ` at entry ${seq}`;
  return reason === undefined ? '' : `: ${reason}`;
}

/** Returns `never` for null only if the database answered. */
function sinceText(report: StatusReport, member: 'last_backup_at' | 'last_restore_at'): string {
  const at = report[member];
  if (at === null) return report.state.revision === null ? '?' : 'never';
  // The client's clock may differ, so the node says whether the time is ahead of the database's clock.
  const isAhead = report.future_times?.includes(member) === true;
  return `${at}, ${isAhead ? 'in the FUTURE: the clock of the database has gone back' : ageText(at)}`;
}

type StoredStatus = NonNullable<StatusReport['stored_backups']>;

/** Returns nothing for a node without a store, or of an earlier version. */
function storedTexts(stored: StoredStatus | null | undefined): string[] {
  if (stored === undefined || stored === null) return [];
  const { store, up, fault, last_failure: failure, running } = stored;
  const state = up === null ? 'not checked yet' : up ? 'up' : `NOT up: ${fault?.code ?? '?'}: ${fault?.detail ?? '?'}`;
  const seconds = stored.last_restore_seconds;
  const proof = seconds === null ? undefined : `the last proof restored a backup in ${seconds.toFixed(1)} s`;
  const failed =
    failure &&
    `last ${failure.kind === 'drill' ? 'drill' : 'backup'} FAILED at ${failure.ended_at ?? '?'}: ${failure.code ?? '?'}: ${failure.detail ?? '?'}`;
  return [
    `${store}: ${state}`,
    `newest proven backup: ${running === null ? '?' : timeText(stored.last_proven_at)}`,
    ...present(proof),
    ...present(faultyText(stored)),
    `next backup at ${shown(stored.next_slot_at)}, next drill at ${shown(stored.next_drill_at)}`,
    ...present(failed),
    ...(running ?? []).map(({ kind, started_at: at, node }) => `${kind} run since ${at} on ${node}`),
  ];
}

/** Returns nothing without a faulty backup, or for a node of an earlier version. */
function faultyText({ faulty_backups: faulty }: Partial<StoredStatus>): string | undefined {
  return faulty ? `${counted(faulty, 'backup')} with a FAULT: see the command backups` : undefined;
}

function timeText(at: string | null): string {
  return at === null ? 'NONE' : `${at}, ${ageText(at)}`;
}

/** Returns a list of one text, or an empty list if there is none. A node of an earlier version lacks some members. */
function present(text: string | null | undefined): string[] {
  return text === null || text === undefined ? [] : [text];
}

function epochChangeText({ epoch_changes, last_epoch_change }: StatusReport['state']): string | undefined {
  if (last_epoch_change === undefined || last_epoch_change === null) return undefined;
  const { at, reason } = last_epoch_change;
  const times = counted(epoch_changes ?? 1, 'new epoch');
  return `${times} because the database had LOST COMMITS, the last at ${at} (${reason})`;
}

/** Says which shares are used up, so that an operator sees why requests wait or are refused. */
function loadText({ connections, pool, queue }: Partial<StatusReport>): string | undefined {
  if (connections === undefined || pool === undefined || queue === undefined) return undefined;
  const { total, idle, waiting, max, streams } = pool;
  return [
    `connections of clients: ${connections.open} of ${connections.max}`,
    `database: ${total - idle} of ${max} in use, ${waiting} waiting`,
    `streams: ${streams.used} of ${streams.max}`,
    `commits waiting: ${queue.depth} of ${queue.max}`,
  ].join('; ');
}

function locksText(locks: StatusReport['locks'] | undefined): string[] {
  if (locks === undefined || locks === null) return ['?'];
  const held = [
    ['state row', locks.state],
    ['restore lock', locks.restore],
  ] as const;
  const texts = held.flatMap(([name, holder]) => {
    if (holder === null) return [];
    const { pid, application_name, since } = holder;
    return `${name} held since ${shown(since)} by process ${pid} of PostgreSQL (${shown(application_name)})`;
  });
  return texts.length === 0 ? ['none'] : texts;
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
