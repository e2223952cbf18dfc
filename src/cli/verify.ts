import { type Continuity, checkAgainst } from '../backup/offline/against.ts';
import { truncationText } from '../backup/offline/against-faults.ts';
import type { Mismatch } from '../backup/offline/fold/compare.ts';
import type { OpenBackup } from '../backup/offline/read.ts';
import { openStoredFile, type StoredFile } from '../backup/offline/stored-file.ts';
import type { Trail } from '../backup/offline/trail.ts';
import { type VerifiedBackup, verifyBackup } from '../backup/offline/verifier.ts';
import { assertManifestOf } from '../backup/stored/stored-manifest.ts';
import { codeOf, isLoomError } from '../errors.ts';
import { oneLine } from '../json/printable.ts';
import { CURRENT_SCHEMA_VERSION } from '../persistence/schema/schema.ts';
import { createCommand } from './command.ts';
import { failureMembers, judged } from './failure.ts';
import { toBackupMembers } from './file/backup-members.ts';
import { openNamedBackup, readableBytes } from './file/file-fault.ts';
import { readIdentities } from './file/identities.ts';
import { UsageError, valued } from './terminal/arguments.ts';
import {
  describeMismatch,
  foldMembers,
  mismatchCode,
  mismatchLines,
  placeOf,
  toldLines,
} from './terminal/fold-text.ts';
import { createMeter, createProgress } from './terminal/progress.ts';
import { counted, quoted } from './terminal/text.ts';

/** Checks a backup file as a restore does, and whether its audit trail continues that of an earlier backup. */
export const verify = createCommand({
  name: 'verify',
  help: {
    summary: 'check a backup file, plain, gzip or encrypted, without a database: exit code 0 or 1',
    synopsis: 'FILE [--identity IDENTITY] [--against EARLIER] [--json]',
    about:
      'Recomputes every digest, count and hash of a backup file, as a restore does. It needs no configuration. If ' +
      'FILE.manifest.json lies beside it, as in a backup store, also compares the bytes of the file with it.',
    succeeds: 'the backup is verified',
    fails: 'the backup has a fault, or the file cannot be read',
    isConfigured: false,
    examples: [
      'node dist/main.js verify loom-backup.json',
      'node dist/main.js verify loom-backup.json --against last-week.json.gz',
      'node dist/main.js verify loom-default-20260131T000000.000Z-r42.json.gz.age --identity key.txt',
    ],
  },
  options: {
    identity: valued('IDENTITY', 'file with the age key of an encrypted FILE (default: LOOM_BACKUP_IDENTITY_FILE)'),
    against: {
      ...valued('EARLIER', 'also check that FILE continues the audit trail of this earlier backup'),
      multiple: true,
    },
  },
  operandCount: 1,
  run: async ({ values: { against = [], identity }, operands: [path = ''], context }) => {
    const [earlierPath, ...others] = against;
    if (others.length > 0) throw new UsageError('--against can be given only once.');
    const progress = createProgress(context);
    const meter = createMeter(context.stop, progress);
    const identities = await readIdentities(identity, context.env);
    const stored = await judged(path, 'not ok', () => openStoredFile(path));
    const open = await openNamedBackup(path, meter, { identities, onChunk: stored?.onChunk }).catch((error: unknown) =>
      explained(path, error, stored),
    );
    const openEarlier =
      earlierPath === undefined
        ? undefined
        : await openNamedBackup(earlierPath, meter, { identities, label: 'EARLIER' });
    progress.begin('verify', await readableBytes(path));
    let file: VerifiedTrail;
    let lines: string[] = [];
    let members: object | null = null;
    try {
      file = await judged(path, 'not ok', () => readStored(open, stored));
      if (earlierPath !== undefined && openEarlier !== undefined) {
        progress.begin('verify EARLIER', await readableBytes(earlierPath));
        const earlier = await judged(earlierPath, 'not ok: EARLIER', () => readTrail(openEarlier));
        progress.begin('compare');
        const continuity = await judged(path, 'not ok', () => checkAgainst(file, earlier));
        lines = continuityOf(continuity, file, earlier);
        members = { file: earlierPath, ...continuityMembers(continuity, earlier) };
      }
    } finally {
      progress.end();
    }
    const { fold } = file;
    const mismatch = fold?.mismatches[0];
    const text = textOf([...verdictOf(file), ...storedLines(stored), ...lines, ...notChecked(file)]);
    const json = {
      ...(mismatch === undefined ? { ok: true } : mismatchFailure(path, mismatch)),
      backup: toBackupMembers(file, path),
      audit_checked_from: file.manifest.audit_first?.seq ?? null,
      against: members,
      trail: foldMembers(fold),
      stored: stored === undefined ? null : storedMembers(stored),
    };
    return { exitCode: mismatch === undefined ? 0 : 1, text, json };
  },
});

type VerifiedTrail = VerifiedBackup & Trail;

/** Verifies a file and compares it with its manifest. Changed bytes explain any other fault, so they come first. */
async function readStored(open: OpenBackup, stored: StoredFile | undefined): Promise<VerifiedTrail> {
  if (stored === undefined) return await readTrail(open);
  const trail = await readTrail(open).catch(async (error: unknown) => {
    await stored.assertBytes();
    throw error;
  });
  await stored.assertBytes();
  assertManifestOf(stored.manifest, { ...trail.header, ...trail.manifest });
  return trail;
}

/** Rethrows why a file cannot be opened. Other bytes than those of its manifest explain that, and so does damage. */
async function explained(path: string, error: unknown, stored: StoredFile | undefined): Promise<never> {
  await judged(path, 'not ok', async () => {
    if (isLoomError(error)) await stored?.assertBytes();
    if (codeOf(error) === 'stored_backup_damaged') throw error;
  });
  throw error;
}

function storedMembers({ manifest: { name, bytes, sha256, encryption } }: StoredFile): object {
  return { name, bytes, sha256, recipients: encryption?.recipients ?? null };
}

function storedLines(stored: StoredFile | undefined): string[] {
  if (stored === undefined) return [];
  const { name, bytes, sha256 } = stored.manifest;
  return [`ok as stored: ${quoted(name)}, ${bytes} bytes, sha256 ${sha256}, as its manifest beside it says`];
}

async function readTrail(open: OpenBackup): Promise<VerifiedTrail> {
  return { ...(await verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION })), open };
}

function continuityMembers(continuity: Continuity, { manifest: { audit_head } }: Trail): object {
  if (continuity.kind === 'continued')
    return { outcome: 'continued', audit_head, from: null, imported: 0, restore: null };
  const { from, imported } = continuity;
  if (continuity.kind === 'imported') return { outcome: 'imported', audit_head, from, imported, restore: null };
  const { seq, recordedAt, requestId, replacedEntries } = continuity.by;
  const restore = { seq, recorded_at: recordedAt, request_id: requestId, replaced_entries: replacedEntries };
  return { outcome: 'taken_out', audit_head, from, imported, restore };
}

/** Returns the first mismatch as `--json` writes a failure. */
function mismatchFailure(file: string, mismatch: Mismatch): object {
  return failureMembers(mismatchCode(mismatch), describeMismatch(mismatch), { file, ...placeOf(mismatch) });
}

function verdictOf({ header, manifest, documents, auditEntries, bytes, fold }: VerifiedBackup): string[] {
  const { audit_first: first } = manifest;
  const faults = mismatchLines(fold);
  const lines = [
    ...faults,
    `${faults.length === 0 ? 'ok: ' : ''}state ${quoted(header.state_key)} at revision ${header.revision}, exported ${header.exported_at}`,
    `${counted(documents, 'document')} and ${counted(auditEntries, 'audit entry')} in ${bytes} bytes; ` +
      'every digest, count and hash matches',
    ...toldLines(fold),
  ];
  if (first === null) lines.push('not checked: the audit trail, which is not in the backup or is empty');
  else if (first.seq > 1)
    lines.push(
      `not checked: the audit entries before ${first.seq}, which are not in the backup, ` +
        'and so whether the documents are as the audit trail says',
    );
  return lines;
}

function notChecked({ manifest: { audit_head: head, sha256 } }: VerifiedBackup): string[] {
  return [
    `not checked: whether this is what the node had. Compare its audit head: entry ${head.seq}, ${head.hash}`,
    `sha256 of the manifest, to compare with the one that you keep elsewhere: ${sha256}`,
  ];
}

/** Returns the result of `--against`: what the hashes prove and, separately, claims of entries, which can be forged. */
function continuityOf(continuity: Continuity, file: Trail, earlier: Trail): string[] {
  const { seq, hash } = earlier.manifest.audit_head;
  const lines = [...originsOf(file, earlier)];
  if (continuity.kind === 'continued') {
    const has = seq === 0 ? 'EARLIER has no entries' : `it has entry ${seq}, ${hash}, and all before it`;
    return [`ok against EARLIER: FILE continues its audit trail; ${has}`, ...lines];
  }
  const { from, imported, isSameBefore } = continuity;
  if (!isSameBefore && from > 1) lines.push(`not checked: the audit entries of EARLIER before ${from}`);
  if (continuity.kind === 'imported') {
    const has = `it has entries ${from} to ${seq} as imports`;
    return [`ok against EARLIER: FILE continues its audit trail; ${has}`, ...lines];
  }
  const back = imported === 0 ? '' : ` ${imported} of them were imported again.`;
  return [
    `ATTENTION: entries ${from} to ${seq} of EARLIER are not in the audit trail of FILE, which gives the reason:`,
    `${truncationText(continuity.by)}.${back}`,
    'not checked: whether an operator intended that restore. Anyone who can write to the database can forge such an entry',
    ...lines,
  ];
}

/** Notes header members that differ, for example after a restore elsewhere. Only the hashes decide the verdict. */
function originsOf(file: Trail, earlier: Trail): string[] {
  const members = { instance_id: 'instance', state_key: 'state key', epoch: 'epoch' } as const;
  return Object.entries(members).flatMap(([member, called]) => {
    const [own, other] = [file, earlier].map(({ header }) => header[member as keyof typeof members]);
    return own === other ? [] : [`note: the ${called} was ${quoted(String(other))} and is ${quoted(String(own))}`];
  });
}

/** Joins the lines. A header cannot add a line. */
function textOf(lines: string[]): string {
  return lines.map((line) => `${oneLine(line)}\n`).join('');
}
