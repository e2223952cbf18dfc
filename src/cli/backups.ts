import type { StoredBackup } from '../domain/backup-run.ts';
import { limits } from '../limits.ts';
import { createClientCommand } from './client/client-command.ts';
import { valued, wholeNumber } from './terminal/arguments.ts';
import { ageText, labelled, quoted, type Row, sizeText, table } from './terminal/text.ts';

const DEFAULT_LIMIT = 20;

/** Lists the stored backups, newest first. */
export const backups = createClientCommand({
  name: 'backups',
  help: {
    summary: 'list the stored backups of a node, newest first',
    synopsis: '[options]',
    about:
      'Lists the backups in the store of the node, newest first, with their last proof. It reads the catalogue in the ' +
      'database, not the store.',
    succeeds: 'the list is complete, or there are more pages',
    fails: 'the node has no store, or did not answer',
    examples: ['node dist/main.js backups', 'node dist/main.js backups --limit 1000 --json | jq -r ".backups[].name"'],
  },
  options: {
    limit: valued('N', `list at most N backups, up to ${limits.maxPageEntries}; default: ${DEFAULT_LIMIT}`),
    before: valued('NAME', 'list the backups before this one'),
  },
  operandCount: 0,
  run: async ({ values, client }) => {
    const limit = wholeNumber(values.limit, 'limit', { min: 1, max: limits.maxPageEntries }) ?? DEFAULT_LIMIT;
    const query = { limit: String(limit), ...(values.before === undefined ? {} : { before: values.before }) };
    const page = await client.listStoredBackups(query);
    return { exitCode: 0, text: textOf(page.backups, page.next), json: { ok: true, ...page } };
  },
});

function textOf(list: StoredBackup[], next: string | null): string {
  if (list.length === 0) return 'No stored backups.\n';
  const rows = list.flatMap((backup): Row[] => [[backup.name, describe(backup)], ...labelled('', faultOf(backup))]);
  return `${table(rows)}${next === null ? '' : `There are more: --before ${quoted(next)}\n`}`;
}

function describe({ taken_at: takenAt, revision, bytes, encrypted, ...backup }: StoredBackup): string {
  const parts = [
    `taken ${ageText(takenAt)}`,
    `revision ${revision}`,
    bytes === null ? 'incomplete' : sizeText(bytes),
    ...(encrypted ? ['encrypted'] : []),
    proofOf(backup),
  ];
  return parts.join(', ');
}

function proofOf({ outcome, proven_at: at, restore_seconds: seconds }: Partial<StoredBackup>): string {
  if (at === null || at === undefined) return outcome === 'running' ? 'being written' : 'NOT PROVEN';
  return `proven ${ageText(at)}${typeof seconds === 'number' ? `, restored in ${seconds.toFixed(1)} s` : ''}`;
}

function faultOf({ fault }: StoredBackup): string[] {
  return fault === null ? [] : [`FAULT ${fault.code}, found at ${fault.found_at}: ${fault.detail}`];
}
