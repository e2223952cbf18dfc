import { createHash } from 'node:crypto';
import { Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';
import { createEphemeralKey, encryptStream } from '../backup/stored/encryption.ts';
import { writeStoredManifest } from '../backup/stored/stored-manifest.ts';
import { makeStoredName, manifestNameOf } from '../backup/stored/stored-name.ts';
import type { ClaimedRun, WrittenBackup } from '../domain/backup-run.ts';
import { NameTakenError, type WrittenObject } from '../domain/object-store.ts';
import type { BackupStream } from '../domain/store.ts';
import { codeOf, isLoomError, LoomError } from '../errors.ts';
import { limits } from '../limits.ts';
import { withinDeadline } from './deadline.ts';
import { runLost } from './lease.ts';
import type { RunParts } from './parts.ts';
import type { Openable } from './proof/open.ts';
import { assertStoreHasId, claimStore } from './store/store-identity.ts';

/**
 * Writes a backup and its manifest into the store. The catalogue has the name before the store has the object. Each
 * step that another node may have taken over rejects with `run_lost`.
 */
export async function writeBackup(
  parts: RunParts,
  run: ClaimedRun,
  signal: AbortSignal,
): Promise<{ backup: Openable; storeId: string; recordTaken: () => Promise<void> }> {
  const { ledger, keys } = parts;
  const isEncrypted = keys.recipients.length > 0;
  const storeId = await claimStore(parts, signal);
  if (!isEncrypted) await warnOfPlainText(parts, run);
  const { stream, name } = await openNamed(parts, run, { storeId, signal });
  try {
    const key = isEncrypted ? await createEphemeralKey() : undefined;
    const named = { name, stream, signal, storeId, proofRecipient: key?.recipient };
    const written = await putBoth(parts, run, named);
    if (!(await ledger.recordWritten(run, written))) {
      await removeOwn(parts, name);
      throw runLost();
    }
    const identities = key === undefined ? [] : [key.identity];
    return { backup: { name, written, isEncrypted, identities }, storeId, recordTaken: stream.recordTaken };
  } finally {
    stream.body.destroy();
  }
}

/**
 * Opens the backup and records its name. Two nodes may open theirs in the same millisecond, at the same revision: the
 * second one opens another.
 */
async function openNamed(
  { ledger, keys, stateKey, verbs }: RunParts,
  run: ClaimedRun,
  { storeId, signal }: { storeId: string; signal: AbortSignal },
): Promise<{ stream: BackupStream; name: string }> {
  const encrypted = keys.recipients.length > 0;
  for (let attempt = 1; ; attempt += 1) {
    const stream = await verbs.openBackup(
      { includeAudit: true },
      {
        requestId: `run-${run.id}`,
        signal,
        isPatient: true,
      },
    );
    try {
      const { exported_at: takenAt, revision } = stream.header;
      const name = makeStoredName({ stateKey, takenAt, revision, encrypted });
      await assertOwn(ledger.nameBackup(run, { name, takenAt, revision, encrypted, storeId }));
      return { stream, name };
    } catch (error) {
      stream.body.destroy();
      if (codeOf(error) !== 'state_busy' || attempt === MAX_NAMES) throw error;
    }
  }
}

const MAX_NAMES = 5;

/** Warns if the last backup was encrypted: one node without the variable would write plain text beside the others. */
async function warnOfPlainText({ ledger, log }: RunParts, run: ClaimedRun): Promise<void> {
  const last = await ledger.readNewestComplete();
  if (last?.encrypted !== true) return;
  log.warn(
    { run: run.id, last: last.name },
    'a backup is stored in plain text, and the last one was encrypted: if that is not intended, set ' +
      'LOOM_BACKUP_RECIPIENTS on this node as on the others',
  );
}

/** Puts the backup, then its manifest. If the manifest fails, the store does not keep the backup either. */
async function putBoth(parts: RunParts, run: ClaimedRun, named: Keyed): Promise<WrittenBackup> {
  const written = await putBackup(parts, run, named).catch(async (error: unknown) => {
    // A copy of the database may take a backup of the same revision in the same millisecond.
    if (error instanceof NameTakenError) await parts.ledger.unnameBackup(run);
    throw error;
  });
  try {
    const manifestSha256 = await putManifest(parts, { ...named, written });
    // A folder that was unmounted meanwhile has taken the objects in its place.
    await assertStoreHasId(parts, named.storeId, named.signal);
    return { ...written, manifestSha256 };
  } catch (error) {
    await removeOwn(parts, named.name);
    throw error;
  }
}

/**
 * Deletes what this run has written. The name is this run's alone, so no other run has written it. A sweep deletes what
 * is left after a failure.
 */
async function removeOwn({ store, log }: RunParts, name: string): Promise<void> {
  try {
    await withinDeadline(store, limits.removeOwnMs, new AbortController().signal, async (signal) => {
      await store.delete(manifestNameOf(name), signal);
      await store.delete(name, signal);
    });
  } catch (error) {
    log.warn({ err: error, backup: name }, 'an incomplete stored backup could not be deleted yet');
  }
}

interface Named {
  name: string;
  stream: BackupStream;
  signal: AbortSignal;
}

interface Keyed extends Named {
  storeId: string;
  /** The public key of the node's own proof; undefined in plain text. */
  proofRecipient: string | undefined;
}

/** Throws `run_lost` if the ledger answers that the run is no longer this node's. */
async function assertOwn(answer: Promise<boolean>): Promise<void> {
  if (!(await answer)) throw runLost();
}

/**
 * Compresses the backup, encrypts it if there are recipients, and puts it into the store. The private key of
 * `proofRecipient` is in the memory of this node only, and lets it prove what it has written.
 */
async function putBackup(
  { keys, ledger, store }: RunParts,
  run: ClaimedRun,
  { name, stream, signal, proofRecipient }: Keyed,
): Promise<WrittenObject> {
  const gzip = createGzip({ chunkSize: limits.gzipChunkBytes });
  const end = createLastCheck(() => assertOwn(ledger.renew(run)));
  let fault: unknown;
  const note = (error: unknown): void => {
    fault ??= error;
  };
  const compressed = pipeline(stream.body, gzip, { signal }).catch(note);
  const stored = proofRecipient === undefined ? gzip : await encryptStream(gzip, [...keys.recipients, proofRecipient]);
  const piped = Promise.all([compressed, pipeline(stored, end, { signal }).catch(note)]);
  try {
    return await store.put(name, end, signal);
  } catch (error) {
    await piped;
    throw causeOf(error, fault);
  } finally {
    end.destroy();
    await piped;
  }
}

/** Passes all bytes on. Waits for `check` before the end: a node that was frozen must not complete its object. */
function createLastCheck(check: () => Promise<void>): Transform {
  return new Transform({
    transform: (chunk, _encoding, done) => done(null, chunk),
    flush: (done) => {
      check().then(() => done(), done);
    },
  });
}

/** Returns why a put failed: the content's own fault if it has one, otherwise the store's. */
function causeOf(put: unknown, content: unknown): unknown {
  if (!isLoomError(content)) return put;
  if (content.code !== 'client_gone') return content;
  if (isLoomError(put) && put.code !== 'client_gone') return put;
  const detail =
    `The store accepted nothing for ${limits.readerIdleTimeoutMs / 1000} s, so the node aborted the backup. ` +
    'Check the connection to the store and its load.';
  return new LoomError('store_failed', detail, { cause: put });
}

/** Puts the manifest next to the complete backup. Returns its digest. */
async function putManifest(
  { keys, store }: RunParts,
  { name, stream, written, signal }: Named & { written: WrittenObject },
): Promise<string> {
  const { header } = stream;
  const manifest = stream.manifest();
  if (manifest === undefined) throw new Error('the backup has no manifest');
  const isEncrypted = keys.recipients.length > 0;
  const text = writeStoredManifest({
    loom_stored_backup: 1,
    name,
    bytes: written.bytes,
    sha256: written.sha256,
    backend: 'postgres',
    instance_id: header.instance_id,
    state_key: header.state_key,
    schema_version: header.schema_version,
    epoch: header.epoch,
    revision: header.revision,
    taken_at: header.exported_at,
    documents: manifest.documents,
    audit_entries: manifest.audit_entries,
    audit_head: manifest.audit_head,
    state_sha256: isEncrypted ? null : manifest.state_sha256,
    compression: 'gzip',
    encryption: isEncrypted ? { format: 'age', recipients: [...keys.recipients] } : null,
  });
  const { sha256 } = await store.put(manifestNameOf(name), Readable.from([Buffer.from(text)]), signal);
  const expected = createHash('sha256').update(text).digest('hex');
  if (sha256 !== expected)
    throw new LoomError('store_failed', `The store wrote other bytes for the manifest of ${JSON.stringify(name)}.`);
  return expected;
}
