import { openBackupFile } from '../backup/file.ts';
import { type VerifiedBackup, verifyBackup } from '../backup/verifier.ts';
import { isLoomError, type LoomError } from '../errors.ts';
import { CURRENT_SCHEMA_VERSION } from '../persistence/schema.ts';
import { type Command, USAGE_EXIT_CODE } from './command.ts';

/** Checks a backup file without a database and without a network, as a restore would. */
export const verify: Command = {
  summary: 'check a backup file, plain or gzip, without a database: exit code 0 or 1',
  takesArguments: true,
  run: async ({ args, write }) => {
    const [path, ...others] = args;
    if (path === undefined || others.length > 0) {
      write('Usage: node dist/main.js verify FILE\n');
      return USAGE_EXIT_CODE;
    }
    try {
      const backup = await verifyBackup(await openBackupFile(path), { schemaVersion: CURRENT_SCHEMA_VERSION });
      write(verdictOf(backup));
      return 0;
    } catch (error) {
      if (!isLoomError(error)) throw error;
      write(`not ok: ${error.code}${placeOf(error)}\n${error.message}\n`);
      return 1;
    }
  },
};

function verdictOf({ header, manifest, documents, auditEntries, bytes }: VerifiedBackup): string {
  const { audit_head: head, audit_first: first } = manifest;
  const lines = [
    `ok: state ${JSON.stringify(header.state_key)} at revision ${header.revision}, exported ${header.exported_at}`,
    `${documents} documents and ${auditEntries} audit entries in ${bytes} bytes; every digest, count and link holds`,
  ];
  if (first === null) lines.push('not checked: the audit trail, which is not in the backup or is empty');
  else if (first.seq > 1) lines.push(`not checked: the audit entries before ${first.seq}, which are not in the backup`);
  lines.push(
    `not checked: whether this is what the node held. Compare its audit head: entry ${head.seq}, ${head.hash}`,
  );
  return `${lines.join('\n')}\n`;
}

function placeOf({ place }: LoomError): string {
  const parts = [
    place.document === undefined ? undefined : `document ${JSON.stringify(place.document)}`,
    place.seq === undefined ? undefined : `audit entry ${place.seq}`,
    place.offset === undefined ? undefined : `byte ${place.offset}`,
    place.pointer === undefined ? undefined : `at ${place.pointer === '' ? 'the root' : place.pointer}`,
  ].filter((part) => part !== undefined);
  return parts.length === 0 ? '' : ` (${parts.join(', ')})`;
}
