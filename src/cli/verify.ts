import { type VerifiedBackup, verifyBackup } from '../backup/verifier.ts';
import type { LoomError } from '../errors.ts';
import { CURRENT_SCHEMA_VERSION } from '../persistence/schema.ts';
import { createFileCommand } from './file-command.ts';

/** Checks a backup file as a restore would. */
export const verify = createFileCommand({
  name: 'verify',
  summary: 'check a backup file, plain or gzip, without a database: exit code 0 or 1',
  report: async (open) => verdictOf(await verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION })),
  faultText: (error) => `not ok: ${error.code}${placeOf(error)}\n${error.message}\n`,
});

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
