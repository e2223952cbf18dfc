import { type VerifiedBackup, verifyBackup } from '../../backup/offline/verifier.ts';
import type { RestoreReport } from '../../domain/backup.ts';
import type { StatusReport } from '../../domain/status.ts';
import { isLoomError } from '../../errors.ts';
import type { NodeClient } from '../../http/client/client.ts';
import { NodeError } from '../../http/client/node-error.ts';
import { CURRENT_SCHEMA_VERSION } from '../../persistence/schema/schema.ts';
import { openNamedBackup, withFileHint } from '../file/file-fault.ts';
import { createMeter, type Progress } from '../terminal/progress.ts';
import { ageText, counted, quoted, type Row } from '../terminal/text.ts';
import type { SentFile } from './restore-body.ts';

/** Names the node that a command changes. Null stands for what the node does not say. */
export interface NodeIdentity {
  url: string;
  version: string | null;
  stateKey: string | null;
}

/** Names the origin of a backup file, according to its header. Null stands for what the header lacks. */
export interface BackupIdentity {
  instanceId: string | null;
  stateKey: string | null;
  schemaVersion: number | null;
  revision: number | null;
  takenAt: string | null;
  /** Undefined if the file was not verified here. */
  documents?: number;
  fold?: VerifiedBackup['fold'];
}

/** Reads the identity of a node from its status. A node whose status fails may still answer other requests. */
export async function readNodeIdentity(client: NodeClient, url: string): Promise<NodeIdentity> {
  const status: Partial<StatusReport> = await client.readStatus().catch((error: unknown) => {
    if (error instanceof NodeError && error.status !== undefined) return {};
    throw error;
  });
  return { url, version: textOf(status.version), stateKey: textOf(status.state_key) };
}

function textOf(value: unknown): string | null {
  return typeof value === 'string' ? value : null;
}

/**
 * Verifies a backup file before any of it is sent, and returns its identity; undefined if only the node can judge it,
 * because it has no manifest or a newer schema. The file must be one JSON text: the node would read text after the
 * backup as members of the request.
 */
export async function identifyBackup(
  { path, identities }: SentFile,
  progress: Progress,
  stop: AbortSignal,
): Promise<BackupIdentity | undefined> {
  try {
    const open = await openNamedBackup(path, createMeter(stop, progress), { identities });
    const check = verifyBackup(open, { schemaVersion: CURRENT_SCHEMA_VERSION });
    const { origin, documents, fold } = await withFileHint(path, check);
    const { instanceId, stateKey, schemaVersion, revision, exportedAt: takenAt } = origin;
    return { instanceId, stateKey, schemaVersion, revision, takenAt, documents, fold };
  } catch (error) {
    const isForNode = isLoomError(error) && ['backup_unverified', 'backup_schema_newer'].includes(error.code);
    if (!isForNode) throw error;
    return undefined;
  }
}

/** A node of an older version does not report where the backup comes from, nor its own instance. */
type MaybeIdentified = Partial<Pick<RestoreReport, 'backup' | 'live' | 'instance_differs'>>;

/**
 * Returns what is to be restored where: from the file itself and, if it could not be verified, from the node's report.
 */
export function identify(report: RestoreReport, node: NodeIdentity, verified: BackupIdentity | undefined) {
  const { backup: told, live, instance_differs: differs }: MaybeIdentified = report;
  const backup = verified ?? {
    instanceId: told?.instance_id ?? null,
    stateKey: told?.state_key ?? null,
    schemaVersion: told?.schema_version ?? null,
    revision: told?.revision ?? null,
    takenAt: told?.taken_at ?? null,
  };
  const instanceId = live?.instance_id ?? null;
  // A backup of unknown origin counts as foreign. If the node does not say who it is, nothing can be compared.
  const isForeign = differs === true || (instanceId !== null && instanceId !== backup.instanceId);
  return { node: { ...node, stateKey: live?.state_key ?? node.stateKey, instanceId }, backup, isForeign };
}

export type Identities = ReturnType<typeof identify>;

/** Returns the rows of a plan that say which backup goes where. The warning is the last of them. */
export function identityRows({ node, backup, isForeign }: Identities, report: RestoreReport): Row[] {
  const documents = backup.documents === undefined ? '' : `, ${counted(backup.documents, 'document')}`;
  const schema = backup.schemaVersion === null ? '' : `, schema ${backup.schemaVersion}`;
  // A restore into a scratch state is based on that state, and the report does not have the live revision.
  const revision = report.scratch === null ? ` at revision ${report.based_on_revision}` : '';
  return [
    ['node', `${node.url}, version ${node.version ?? 'unknown'}`],
    ['live state', `${known(node.stateKey)}${revision}, instance ${known(node.instanceId)}`],
    ['backup of', `${known(backup.stateKey)} at revision ${backup.revision ?? 'unknown'}${documents}${schema}`],
    ['', `instance ${known(backup.instanceId)}`],
    ['taken', backup.takenAt === null ? 'at an unknown time' : `${ageText(backup.takenAt)}: ${backup.takenAt}`],
    ...(isForeign ? [['ATTENTION', foreignText(backup)] as const] : []),
  ];
}

/** Says loudly that the backup is from elsewhere: a backup of a test system looks like any other. */
export function foreignText({ instanceId }: BackupIdentity): string {
  return instanceId === null
    ? 'THIS BACKUP IS OF UNKNOWN ORIGIN: IT NAMES NO INSTANCE'
    : 'THIS BACKUP COMES FROM ANOTHER INSTANCE';
}

/** Throws `instance_mismatch`, for a restore without a question. */
export function refuseForeign({ node, backup }: Identities): never {
  throw new NodeError(
    'instance_mismatch',
    `${foreignText(backup)}. Its instance is ${known(backup.instanceId)}, and that of the node is ` +
      `${known(node.instanceId)}. Nothing was changed. If you mean to restore it, add --accept-instance.`,
  );
}

function known(name: string | null): string {
  return name === null ? 'unknown' : quoted(name);
}
