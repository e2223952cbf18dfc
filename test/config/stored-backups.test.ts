import { describe, expect, test } from 'vitest';
import { ConfigError, configSecrets, parseConfig } from '../../src/config/config.ts';

const RECIPIENT = 'age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p';
const STORE = { LOOM_BACKUP_STORE: 'file:///var/lib/loom/backups' };
const BUCKET = { LOOM_BACKUP_STORE: 's3://loom/prod' };

function parse(env: Record<string, string>, files: Record<string, string> = {}) {
  const required = { LOOM_PG_URL: 'postgres://loom@db/loom', LOOM_ADMIN_TOKEN: 'admin-token-0123456789' };
  return parseConfig({ ...required, ...env }, { readFile: (path) => files[path] ?? '' });
}

function problemsOf(env: Record<string, string>, files: Record<string, string> = {}): string {
  try {
    parse(env, files);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems.join('\n');
    throw error;
  }
  return '';
}

test('there are no stored backups without a store', () => {
  expect(parse({}).storedBackups).toBeUndefined();
});

test('a folder needs no other setting', () => {
  expect(parse(STORE).storedBackups).toEqual({
    store: { kind: 'file', directory: '/var/lib/loom/backups' },
    schedule: '0 * * * *',
    drillSchedule: '0 3 * * *',
    keep: 'last=24,daily=14,weekly=8,monthly=12',
    recipients: [],
  });
});

test('every variable sets its part, and the log gets the secrets', () => {
  const identity = `# created: 2026-11-25\n# public key: ${RECIPIENT}\nAGE-SECRET-KEY-1QQPQQQ\n`;
  const config = parse(
    {
      ...BUCKET,
      LOOM_BACKUP_SCHEDULE: '*/10 * * * *',
      LOOM_BACKUP_KEEP: 'all',
      LOOM_BACKUP_S3_ENDPOINT: 'http://127.0.0.1:9000',
      LOOM_BACKUP_S3_REGION: 'auto',
      LOOM_BACKUP_S3_ACCESS_KEY_ID: 'the-id',
      LOOM_BACKUP_S3_SECRET_ACCESS_KEY_FILE: '/secrets/s3',
      LOOM_BACKUP_RECIPIENTS: `${RECIPIENT}, ${RECIPIENT}`,
      LOOM_BACKUP_IDENTITY_FILE: '/secrets/identity',
      LOOM_BACKUP_PING_URL: 'https://hc.example/ping/7d1f0c/',
      LOOM_DRILL_SCHEDULE: '0 0 4 * * 0',
    },
    { '/secrets/s3': 'the-secret-key\n', '/secrets/identity': identity },
  );
  expect(config.storedBackups).toEqual({
    store: {
      kind: 's3',
      bucket: 'loom',
      prefix: 'prod',
      endpoint: 'http://127.0.0.1:9000',
      region: 'auto',
      credentials: { accessKeyId: 'the-id', secretAccessKey: 'the-secret-key' },
    },
    schedule: '*/10 * * * *',
    drillSchedule: '0 0 4 * * 0',
    keep: 'all',
    recipients: [RECIPIENT, RECIPIENT],
    identity: identity.trimEnd(),
    pingUrl: 'https://hc.example/ping/7d1f0c/',
  });
  expect(configSecrets(config)).toEqual(
    expect.arrayContaining([
      'the-secret-key',
      'AGE-SECRET-KEY-1QQPQQQ',
      'https://hc.example/ping/7d1f0c/',
      '/ping/7d1f0c',
    ]),
  );
});

describe('addresses of stores', () => {
  const accepted = [
    ['file:///backups', { kind: 'file', directory: '/backups' }],
    ['file://localhost/mnt/a%20b/', { kind: 'file', directory: '/mnt/a b' }],
    ['s3://loom-backups', { kind: 's3', bucket: 'loom-backups', prefix: '' }],
    ['s3://loom-backups/', { kind: 's3', bucket: 'loom-backups', prefix: '' }],
    ['s3://loom-backups/a/b/', { kind: 's3', bucket: 'loom-backups', prefix: 'a/b' }],
  ] as const;
  test.each(accepted)('%s is accepted', (address, store) => {
    expect(parse({ LOOM_BACKUP_STORE: address }).storedBackups?.store).toEqual(store);
  });

  const refused = [
    '/var/lib/loom/backups',
    'file:/backups',
    'file://backups',
    'file:///',
    'file:///a/../b',
    'file:///a%00',
    'file:///a?b',
    's3://',
    's3://Loom',
    's3://loom//a',
    's3://loom/../a',
    's3://key:secret@loom/a',
    'https://loom.s3.amazonaws.com/a',
  ];
  test.each(refused)('%s is refused', (address) => {
    expect(problemsOf({ LOOM_BACKUP_STORE: address })).toMatch(/^LOOM_BACKUP_STORE must have the form .*$/);
  });
});

test('a setting that needs a store is refused without one, each by its name', () => {
  const problems = problemsOf({
    LOOM_BACKUP_KEEP: 'all',
    LOOM_DRILL_SCHEDULE: '0 4 * * *',
    LOOM_BACKUP_PING_URL_FILE: '/secrets/ping',
    LOOM_BACKUP_STOER: 'file:///backups',
  });
  expect(problems).toContain('LOOM_BACKUP_STOER is not a variable of LOOM; did you mean LOOM_BACKUP_STORE?');
  for (const name of ['LOOM_BACKUP_KEEP', 'LOOM_DRILL_SCHEDULE', 'LOOM_BACKUP_PING_URL_FILE'])
    expect(problems).toContain(`${name} is set, but LOOM_BACKUP_STORE is not: set it, or remove ${name}`);
  expect(problemsOf({ LOOM_BACKUP_IDENTITY: 'AGE-SECRET-KEY-1QQPQQQ' })).toBe('');
});

test('recipients that are wrong or empty stop the start, so that no backup is stored in plain text by mistake', () => {
  for (const recipients of [
    RECIPIENT.slice(1),
    `${RECIPIENT} age1`,
    'AGE-SECRET-KEY-1QQ',
    ',',
    `${RECIPIENT},`,
    `, ${RECIPIENT}`,
    '',
  ])
    expect(problemsOf({ ...STORE, LOOM_BACKUP_RECIPIENTS: recipients })).toMatch(/^LOOM_BACKUP_RECIPIENTS .*$/);
  expect(problemsOf({ LOOM_BACKUP_RECIPIENTS: '' })).toBe('');
});

test.each([
  ['LOOM_BACKUP_RECIPIENTS', 'AGE-SECRET-KEY-1HUNTER2', 'has a secret key: '],
  ['LOOM_BACKUP_RECIPIENTS', `${RECIPIENT},age-secret-key-1hunter2`, 'has a secret key: '],
  ['LOOM_BACKUP_RECIPIENTS', 'ssh-ed25519 HUNTER2 me@example', 'has an SSH key: '],
  ['LOOM_BACKUP_IDENTITY', 'age-encryption.org/v1\n-> scrypt HUNTER2 18', 'is encrypted with a passphrase: '],
  ['LOOM_BACKUP_IDENTITY', '-----BEGIN AGE ENCRYPTED FILE-----\nHUNTER2', 'is encrypted with a passphrase: '],
  ['LOOM_BACKUP_IDENTITY', '-----BEGIN OPENSSH PRIVATE KEY-----\nHUNTER2', 'is an SSH key: '],
])('a wrong kind of key in %s is named, and not repeated: %s', (name, value, found) => {
  const problems = problemsOf({ ...STORE, [name]: value });
  expect(problems).toContain(`${name} ${found}`);
  expect(problems.toUpperCase()).not.toContain('HUNTER2');
});

test('the settings of S3 must fit together', () => {
  const id = { LOOM_BACKUP_S3_ACCESS_KEY_ID: 'the-id' };
  expect(problemsOf({ ...BUCKET, ...id })).toContain('LOOM_BACKUP_S3_SECRET_ACCESS_KEY is not');
  expect(problemsOf({ ...BUCKET, LOOM_BACKUP_S3_SECRET_ACCESS_KEY: 'a' })).toContain(
    'LOOM_BACKUP_S3_ACCESS_KEY_ID is not',
  );
  expect(problemsOf({ ...STORE, LOOM_BACKUP_S3_REGION: 'auto' })).toBe(
    'LOOM_BACKUP_S3_REGION is set, but LOOM_BACKUP_STORE is a folder: remove one of them',
  );
});

test.each(['http://minio:9000', 'https://minio.example/'])('the endpoint %s is accepted', (endpoint) => {
  expect(problemsOf({ ...BUCKET, LOOM_BACKUP_S3_ENDPOINT: endpoint })).toBe('');
});

test.each(['minio:9000', 'https://minio.example/bucket', 'https://a:b@minio.example', 'https://minio.example?a'])(
  'the endpoint %s is refused',
  (endpoint) => {
    expect(problemsOf({ ...BUCKET, LOOM_BACKUP_S3_ENDPOINT: endpoint })).toMatch(/^LOOM_BACKUP_S3_ENDPOINT must have /);
  },
);

test('a problem never repeats a secret', () => {
  const problems = problemsOf({
    ...BUCKET,
    LOOM_BACKUP_S3_ACCESS_KEY_ID: 'hunter2 id',
    LOOM_BACKUP_S3_SECRET_ACCESS_KEY: 'hunter2 secret',
    LOOM_BACKUP_IDENTITY: 'hunter2',
    LOOM_BACKUP_PING_URL: 'https://user:hunter2@hc.example/ping',
    LOOM_BACKUP_SCHEDULE: 'hourly',
    LOOM_BACKUP_KEEP: 'first=3',
  });
  expect(problems.split('\n')).toHaveLength(6);
  expect(problems).not.toContain('hunter2');
});
