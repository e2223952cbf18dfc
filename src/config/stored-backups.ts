import { isEncryptedFile } from '../backup/stored/encryption.ts';
import { readKeepPolicy } from '../backup/stored/retention.ts';
import { readSchedule } from '../backup/stored/schedule.ts';
import { hasControlCharacter } from './characters.ts';

// The settings of the backup store. Like those of checks.ts, a fault is a predicate for the variable's name. It never
// repeats a value, except that a public key may be shown.

/** Says where the store is, as `openObjectStore` takes it. */
export type BackupStoreConfig =
  | { readonly kind: 'file'; readonly directory: string }
  | {
      readonly kind: 's3';
      readonly bucket: string;
      /** Without a slash at its ends; empty for the whole bucket. */
      readonly prefix: string;
      readonly endpoint?: string;
      readonly region?: string;
      /** Default: what the AWS SDK finds, such as a role of the machine. */
      readonly credentials?: { readonly accessKeyId: string; readonly secretAccessKey: string };
    };

export interface StoredBackupsConfig {
  readonly store: BackupStoreConfig;
  /** Cron expressions in UTC. */
  readonly schedule: string;
  readonly drillSchedule: string;
  readonly keep: string;
  /** The age public keys that can decrypt every backup; empty for backups in plain text. */
  readonly recipients: readonly string[];
  /** The text of an age identity file, which is secret. */
  readonly identity?: string;
  /** Contains a token in its path or query. */
  readonly pingUrl?: string;
}

/** Holds the checked values of the variables, as the schema returns them. */
export interface StoredBackupsValues {
  LOOM_BACKUP_STORE?: BackupStoreConfig | undefined;
  LOOM_BACKUP_SCHEDULE: string;
  LOOM_BACKUP_KEEP: string;
  LOOM_BACKUP_S3_ENDPOINT?: string | undefined;
  LOOM_BACKUP_S3_REGION?: string | undefined;
  LOOM_BACKUP_S3_ACCESS_KEY_ID?: string | undefined;
  LOOM_BACKUP_S3_SECRET_ACCESS_KEY?: string | undefined;
  LOOM_BACKUP_RECIPIENTS?: string[] | undefined;
  LOOM_BACKUP_IDENTITY?: string | undefined;
  LOOM_BACKUP_PING_URL?: string | undefined;
  LOOM_DRILL_SCHEDULE: string;
}

export const STORE_FORM = 'must have the form file:///var/lib/loom/backups or s3://bucket/prefix';

/** Parses the address of a store. Returns undefined for an invalid one. */
export function parseStoreAddress(text: string): BackupStoreConfig | undefined {
  if (hasControlCharacter(text) || /[?#\\]/.test(text)) return undefined;
  if (text.startsWith('file://')) {
    const path = decode(text.slice('file://'.length).replace(/^localhost(?=\/)/, ''));
    const directory = path === undefined ? '' : withoutLastSlash(path);
    return directory.startsWith('/') && hasPlainParts(directory.slice(1)) ? { kind: 'file', directory } : undefined;
  }
  if (!text.startsWith('s3://')) return undefined;
  const [bucket = '', ...parts] = withoutLastSlash(text.slice('s3://'.length)).split('/');
  if (!/^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$/.test(bucket)) return undefined;
  const prefix = parts.join('/');
  const isPlain = prefix === '' || (/^[\w!.*'()/=@:-]{1,512}$/.test(prefix) && hasPlainParts(prefix));
  return isPlain ? { kind: 's3', bucket, prefix } : undefined;
}

function withoutLastSlash(path: string): string {
  return path.endsWith('/') ? path.slice(0, -1) : path;
}

function hasPlainParts(path: string): boolean {
  return path.split('/').every((part) => !['', '.', '..'].includes(part));
}

function decode(text: string): string | undefined {
  try {
    const decoded = decodeURIComponent(text);
    return hasControlCharacter(decoded) ? undefined : decoded;
  } catch {
    return undefined;
  }
}

/** Refuses a fragment, which no request contains. */
export function pingUrlFault(text: string): string | undefined {
  const fault = 'must have the form https://host/path or http://host/path, without user, password or fragment';
  if (/\s/.test(text) || hasControlCharacter(text) || !URL.canParse(text)) return fault;
  const { protocol, username, password } = new URL(text);
  const isPlain = username === '' && password === '' && !text.includes('#');
  return isPlain && ['http:', 'https:'].includes(protocol) ? undefined : fault;
}

export function scheduleFault(text: string): string | undefined {
  const read = readSchedule(text);
  return 'fault' in read ? read.fault : undefined;
}

export function keepFault(text: string): string | undefined {
  const read = readKeepPolicy(text);
  return 'fault' in read ? read.fault : undefined;
}

/** Refuses a path. Consoles of services show addresses that end with the bucket, which `LOOM_BACKUP_STORE` names. */
export function endpointFault(text: string): string | undefined {
  const fault = 'must have the form https://minio.example:9000 or http://host, without user, password, path or query';
  if (/\s/.test(text) || hasControlCharacter(text) || !URL.canParse(text)) return fault;
  const { protocol, username, password, pathname, search, hash } = new URL(text);
  const isPlain = [username, password, search, hash].every((part) => part === '') && pathname === '/';
  return isPlain && ['http:', 'https:'].includes(protocol) ? undefined : fault;
}

/** Splits a list at commas and white space. */
export function splitRecipients(text: string): string[] {
  return text.split(/[\s,]+/).filter((one) => one !== '');
}

/** Checks the form alone. `startNode` also checks the checksums, for which it loads the library of age. */
export function recipientsFault(text: string): string | undefined {
  if (/^\s*,|,\s*,|,\s*$/.test(text))
    return 'has a comma without a public key beside it: add the key, or remove the comma';
  const recipients = splitRecipients(text);
  if (recipients.some((one) => /^AGE-(SECRET-KEY|PLUGIN)-/i.test(one)))
    return 'has a secret key: give its public key (age-keygen -y), and keep the secret one elsewhere';
  if (recipients.some((one) => /^(ssh|ecdsa|sk)-/.test(one)))
    return 'has an SSH key: LOOM takes only public keys of age (age1…), which age-keygen makes';
  const isList = recipients.length > 0 && recipients.every((one) => /^age1[a-z0-9]+$/.test(one));
  return isList ? undefined : 'must be one or more age public keys (age1…), separated by commas or spaces';
}

export function identityFault(text: string): string | undefined {
  if (/^AGE-SECRET-KEY-/m.test(text)) return undefined;
  if (isEncryptedFile(text)) return 'is encrypted with a passphrase: decrypt it first (age -d)';
  if (/^-----BEGIN .*PRIVATE KEY-----/.test(text.trimStart()))
    return 'is an SSH key: LOOM takes only identities of age (AGE-SECRET-KEY-1…), which age-keygen makes';
  return 'must have the form of an age identity file (AGE-SECRET-KEY-1…)';
}

const STORE = 'LOOM_BACKUP_STORE';
const S3_NAMES = ['ENDPOINT', 'REGION', 'ACCESS_KEY_ID', 'SECRET_ACCESS_KEY'].map((name) => `LOOM_BACKUP_S3_${name}`);

/** Recognizes the settings that mean nothing without a store. `verify` reads an identity, too. */
function needsStore(name: string): boolean {
  return name === 'LOOM_DRILL_SCHEDULE' || (/^LOOM_BACKUP_/.test(name) && !/^LOOM_BACKUP_(STORE|IDENTITY)$/.test(name));
}

/**
 * Reports settings that do not fit together. `given` has the variables that are set, `env` also the empty ones, and
 * `known` the names of all variables.
 */
export function checkStoredBackups(
  given: ReadonlyMap<string, string>,
  env: Readonly<Record<string, string | undefined>>,
  known: readonly string[],
  problems: string[],
): void {
  const plain = (name: string): string => name.replace(/_FILE$/, '');
  const settings = [...given.keys()].filter((name) => known.includes(plain(name)) && needsStore(plain(name)));
  const store = given.get(STORE);
  if (store === undefined) {
    for (const name of settings) problems.push(`${name} is set, but ${STORE} is not: set it, or remove ${name}`);
    return;
  }
  // A template whose variable is missing leaves an empty value. Its author expects encryption.
  if (env.LOOM_BACKUP_RECIPIENTS === '') {
    problems.push('LOOM_BACKUP_RECIPIENTS is empty: give the public keys, or remove it to store backups in plain text');
  }
  if (store.startsWith('file:')) {
    for (const name of settings.filter((one) => S3_NAMES.includes(plain(one))))
      problems.push(`${name} is set, but ${STORE} is a folder: remove one of them`);
  }
  const has = (name: string): boolean => given.has(name) || given.has(`${name}_FILE`);
  const [id, secret] = ['LOOM_BACKUP_S3_ACCESS_KEY_ID', 'LOOM_BACKUP_S3_SECRET_ACCESS_KEY'] as const;
  if (has(id) !== has(secret)) {
    const [found, missing] = has(id) ? [id, secret] : [secret, id];
    problems.push(`${found} is set, but ${missing} is not: set both, or neither to use the credentials of the machine`);
  }
}

/** Returns undefined without a store. */
export function toStoredBackupsConfig(values: StoredBackupsValues): StoredBackupsConfig | undefined {
  const { LOOM_BACKUP_STORE: store, LOOM_BACKUP_IDENTITY: identity, LOOM_BACKUP_PING_URL: pingUrl } = values;
  if (store === undefined) return undefined;
  return {
    store: store.kind === 'file' ? store : { ...store, ...toS3Settings(values) },
    schedule: values.LOOM_BACKUP_SCHEDULE,
    drillSchedule: values.LOOM_DRILL_SCHEDULE,
    keep: values.LOOM_BACKUP_KEEP,
    recipients: values.LOOM_BACKUP_RECIPIENTS ?? [],
    ...(identity === undefined ? {} : { identity }),
    ...(pingUrl === undefined ? {} : { pingUrl }),
  };
}

function toS3Settings(values: StoredBackupsValues) {
  const { LOOM_BACKUP_S3_ENDPOINT: endpoint, LOOM_BACKUP_S3_REGION: region } = values;
  const { LOOM_BACKUP_S3_ACCESS_KEY_ID: accessKeyId, LOOM_BACKUP_S3_SECRET_ACCESS_KEY: secretAccessKey } = values;
  return {
    ...(endpoint === undefined ? {} : { endpoint }),
    ...(region === undefined ? {} : { region }),
    ...(accessKeyId === undefined || secretAccessKey === undefined
      ? {}
      : { credentials: { accessKeyId, secretAccessKey } }),
  };
}

/** Returns the secrets of the settings, for the log. The keys of an identity may appear one by one. */
export function storedBackupsSecrets(config: StoredBackupsConfig | undefined): string[] {
  if (config === undefined) return [];
  const { store, identity = '', pingUrl } = config;
  const keys = identity.match(/AGE-SECRET-KEY-\S+/g) ?? [];
  return [
    ...(store.kind === 's3' && store.credentials !== undefined ? [store.credentials.secretAccessKey] : []),
    ...keys,
    ...(pingUrl === undefined ? [] : pingSecrets(pingUrl)),
  ];
}

/** Returns the URL, and its path with the token, unless that is so short that it could be any word. */
function pingSecrets(pingUrl: string): string[] {
  const { pathname } = new URL(pingUrl);
  const path = withoutLastSlash(pathname);
  return path.length > MIN_SECRET_PATH_CHARACTERS ? [pingUrl, path] : [pingUrl];
}

const MIN_SECRET_PATH_CHARACTERS = 8;
