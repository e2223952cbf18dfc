import type { RunLedger } from '../domain/backup-run.ts';
import type { ObjectStore } from '../domain/object-store.ts';
import type { Store } from '../domain/store.ts';
import type { Log } from '../log.ts';

/** The verbs of the store of a state that runs use. */
export type BackupVerbs = Pick<Store, 'openBackup' | 'restore' | 'verifyAudit' | 'dropScratch' | 'readScratchStates'>;

/** Holds what every run of a node uses. */
export interface RunParts {
  ledger: RunLedger;
  store: ObjectStore;
  verbs: BackupVerbs;
  stateKey: string;
  keys: StoredKeys;
  log: Log;
}

/** Holds what compares the catalogue with the store, and deletes. */
export type CatalogueParts = Pick<RunParts, 'ledger' | 'store' | 'stateKey' | 'log'>;

/** Holds the keys of the node for stored backups. */
export interface StoredKeys {
  /** The public keys to which backups are encrypted; empty for backups in plain text. */
  recipients: readonly string[];
  /** The private keys for proofs and restores; empty without `LOOM_BACKUP_IDENTITY_FILE`. */
  identities: readonly string[];
}
