import { type Continuity, checkAgainst } from '../backup/offline/against.ts';
import { truncationText } from '../backup/offline/against-faults.ts';
import type { OpenBackup } from '../backup/offline/read.ts';
import type { Trail } from '../backup/offline/trail.ts';
import { type VerifiedBackup, verifyBackup } from '../backup/offline/verifier.ts';
import { isLoomError } from '../errors.ts';
import { CURRENT_SCHEMA_VERSION } from '../persistence/schema/schema.ts';
import { createFileCommand, OtherFileFault } from './file/file-command.ts';
import { counted, printable, quoted } from './terminal/text.ts';

/** Checks a backup file as a restore would, and whether it goes on from an earlier one. */
export const verify = createFileCommand({
  name: 'verify',
  summary: 'check a backup file, plain or gzip, without a database: exit code 0 or 1',
  otherFile: { option: 'against', called: 'EARLIER', help: 'also check that FILE goes on from this earlier backup' },
  verdict: 'not ok',
  report: async (open, openEarlier) => {
    const backup = await verifyFile(open);
    if (openEarlier === undefined) return textOf([...verdictOf(backup), ...notTold(backup)]);
    const earlier = await verifyEarlier(openEarlier);
    const trails = { file: { ...backup, open }, earlier: { ...earlier, open: openEarlier } };
    const continuity = await checkAgainst(trails.file, trails.earlier);
    return textOf([...verdictOf(backup), ...continuityOf(continuity, trails), ...notTold(backup)]);
  },
});

function verifyFile(open: OpenBackup): Promise<VerifiedBackup> {
  return verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION });
}

async function verifyEarlier(open: OpenBackup): Promise<VerifiedBackup> {
  try {
    return await verifyFile(open);
  } catch (error) {
    throw isLoomError(error) ? new OtherFileFault(error) : error;
  }
}

function verdictOf({ header, manifest, documents, auditEntries, bytes }: VerifiedBackup): string[] {
  const { audit_first: first } = manifest;
  const lines = [
    `ok: state ${quoted(header.state_key)} at revision ${header.revision}, exported ${header.exported_at}`,
    `${counted(documents, 'document')} and ${counted(auditEntries, 'audit entry', 'audit entries')} in ${bytes} bytes; ` +
      'every digest, count and link holds',
  ];
  if (first === null) lines.push('not checked: the audit trail, which is not in the backup or is empty');
  else if (first.seq > 1) lines.push(`not checked: the audit entries before ${first.seq}, which are not in the backup`);
  return lines;
}

function notTold({ manifest: { audit_head: head, sha256 } }: VerifiedBackup): string[] {
  return [
    `not checked: whether this is what the node held. Compare its audit head: entry ${head.seq}, ${head.hash}`,
    `sha256 of the manifest, to compare with the one that you keep elsewhere: ${sha256}`,
  ];
}

/** What `--against` has found; a forger can write what an entry says, so that is told apart from what the chain shows. */
function continuityOf(continuity: Continuity, { file, earlier }: { file: Trail; earlier: Trail }): string[] {
  const { seq, hash } = earlier.manifest.audit_head;
  const lines = [...originsOf(file, earlier)];
  if (continuity.kind === 'held') {
    const of = seq === 0 ? 'it has no entries' : `entry ${seq}, ${hash}, and all before it are in the file's`;
    return [`ok against EARLIER: its audit trail lives on; ${of}`, ...lines];
  }
  const { from, imported, isSameBefore } = continuity;
  if (!isSameBefore && from > 1) lines.push(`not checked: the audit entries of EARLIER before ${from}`);
  if (continuity.kind === 'imported') {
    return [`ok against EARLIER: its audit trail lives on; entries ${from} to ${seq} are held as imports`, ...lines];
  }
  const back = imported === 0 ? '' : ` Of those of EARLIER, ${imported} came back as imports.`;
  return [
    `ATTENTION: entries ${from} to ${seq} of EARLIER are not in the file's audit trail, which says why:`,
    `${truncationText(continuity.by)}.${back}`,
    'not checked: whether that restore was meant. Whoever can write to the database can write such an entry',
    ...lines,
  ];
}

/** These may differ for good reasons, such as a restore elsewhere; the chain decides. */
function originsOf(file: Trail, earlier: Trail): string[] {
  const members = { instance_id: 'instance', state_key: 'state key', epoch: 'epoch' } as const;
  return Object.entries(members).flatMap(([member, called]) => {
    const [own, other] = [file, earlier].map(({ header }) => header[member as keyof typeof members]);
    return own === other ? [] : [`note: the ${called} was ${quoted(String(other))} and is ${quoted(String(own))}`];
  });
}

/** A line stays one, whatever stands in a header. */
function textOf(lines: string[]): string {
  return lines.map((line) => `${printable(line).replaceAll('\n', '\\n')}\n`).join('');
}
