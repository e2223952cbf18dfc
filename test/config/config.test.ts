import { generate } from 'selfsigned';
import { beforeAll, describe, expect, test } from 'vitest';
import { CONFIG_EXIT_CODE, ConfigError, configSecrets, configVariables, parseConfig } from '../../src/config/config.ts';
import { limits } from '../../src/limits.ts';

const URL = 'postgres://loom:hunter2-very-secret@db.internal:5432/loom';
const ADMIN = 'admin-token-0123456789';
const CLIENT = 'client-token-0123456789';
const required = { LOOM_PG_URL: URL, LOOM_ADMIN_TOKEN: ADMIN };

/** Creates a disk that contains only these files. */
function diskOf(files: Record<string, string>): { readFile: (path: string) => string } {
  return {
    readFile: (path) => {
      const content = files[path];
      if (content === undefined) throw Object.assign(new Error(`no such file ${path}`), { code: 'ENOENT' });
      return content;
    },
  };
}

function parse(env: Record<string, string | undefined>, files: Record<string, string> = {}) {
  return parseConfig({ ...required, ...env }, diskOf(files));
}

function problemsOf(env: Record<string, string | undefined>, files: Record<string, string> = {}): readonly string[] {
  try {
    parse(env, files);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

test('two variables are required, and the others have defaults or are optional', () => {
  expect(parse({})).toEqual({
    postgres: {
      url: URL,
      stateKey: 'default',
      poolMax: 10,
      streamsMax: 5,
      idleTimeoutMs: 30_000,
      connectTimeoutMs: 5_000,
      ssl: false,
    },
    http: { host: '127.0.0.1', port: 8787, trustProxy: false, metricsPublic: false },
    tokens: { admin: [ADMIN], client: [] },
    log: { level: 'info' },
    shutdown: { delayMs: 0, timeoutMs: 30_000 },
    migrate: 'auto',
    maxDocumentBytes: limits.maxDocumentBytes,
  });
});

test('every variable sets its part of the configuration', () => {
  const config = parse({
    LOOM_CLIENT_TOKEN: `${CLIENT},${CLIENT}-next`,
    LOOM_PG_STATE_KEY: 'billing/ü',
    LOOM_PG_POOL_MAX: '20',
    LOOM_PG_STREAMS_MAX: '18',
    LOOM_PG_IDLE_TIMEOUT_MS: '1000',
    LOOM_PG_CONNECT_TIMEOUT_MS: '750',
    LOOM_PG_SSL: 'true',
    LOOM_PG_SSL_REJECT_UNAUTHORIZED: '0',
    LOOM_HOST: '::',
    LOOM_PORT: '0',
    LOOM_TRUST_PROXY: '1',
    LOOM_METRICS_PUBLIC: 'TRUE',
    LOOM_LOG_LEVEL: 'trace',
    LOOM_SHUTDOWN_DELAY_MS: '5000',
    LOOM_SHUTDOWN_TIMEOUT_MS: '0',
    LOOM_MIGRATE: 'manual',
    LOOM_MAX_DOCUMENT_BYTES: '1048576',
  });
  expect(config).toEqual({
    postgres: {
      url: URL,
      stateKey: 'billing/ü',
      poolMax: 20,
      streamsMax: 18,
      idleTimeoutMs: 1_000,
      connectTimeoutMs: 750,
      ssl: { rejectUnauthorized: false },
    },
    http: { host: '::', port: 0, trustProxy: 1, metricsPublic: true },
    tokens: { admin: [ADMIN], client: [CLIENT, `${CLIENT}-next`] },
    log: { level: 'trace' },
    shutdown: { delayMs: 5_000, timeoutMs: 0 },
    migrate: 'manual',
    maxDocumentBytes: 1_048_576,
  });
  expect(configSecrets(config)).toEqual([URL, ADMIN, CLIENT, `${CLIENT}-next`]);
});

test('an empty variable counts as unset', () => {
  const empty = Object.fromEntries(
    configVariables().flatMap(({ name, secret }) => (secret ? [[`${name}_FILE`, '']] : [[name, '']])),
  );
  expect(parse(empty)).toEqual(parse({}));
  expect(problemsOf({ LOOM_PG_URL: '' })[0]).toContain('LOOM_PG_URL is required');
});

test('every problem is reported at once, one line each, naming its variable', () => {
  const wrong = {
    LOOM_PG_URL: undefined,
    LOOM_ADMIN_TOKEN: 'short',
    LOOM_CLIENT_TOKEN_FILE: '/secrets/missing',
    LOOM_PG_POOL_MAX: 'many',
    LOOM_PG_SSL: 'maybe',
    LOOM_PORT: '65536',
    LOOM_LOG_LEVEL: 'loud',
    LOOM_MIGRATE: 'never',
    LOOM_PG_POOLMAX: '5',
  };
  const problems = problemsOf(wrong);
  for (const name of Object.keys(wrong))
    expect(problems.filter((problem) => problem.startsWith(`${name} `))).toHaveLength(1);
  expect(problems).toHaveLength(Object.keys(wrong).length);
  expect(new ConfigError(problems).message.split('\n')).toHaveLength(problems.length + 1);
});

test.each([
  ['LOOM_PG_POOL_MAX', ['2', '201', '-1', '2.5', '1e1', '0x10', ' 5', 'ten'], 'a whole number from 3 to 200'],
  ['LOOM_PORT', ['-1', '65536', '80 80', 'http'], 'a whole number from 0 to 65535'],
  [
    'LOOM_MAX_DOCUMENT_BYTES',
    ['0', '1023', String(limits.maxConfigurableDocumentBytes + 1)],
    'a whole number from 1024',
  ],
  ['LOOM_SHUTDOWN_DELAY_MS', ['-5', '3600001', '99999999999999999999'], 'a whole number from 0'],
  ['LOOM_PG_SSL', ['maybe', 'require', '2'], 'true or false'],
  ['LOOM_METRICS_PUBLIC', ['public'], 'true or false'],
  ['LOOM_LOG_LEVEL', ['verbose', 'INFO '], 'one of fatal, error'],
  ['LOOM_MIGRATE', ['yes'], 'one of auto, manual'],
  ['LOOM_HOST', ['http://0.0.0.0', 'a b'], 'address or host name'],
  ['LOOM_PG_STATE_KEY', ['a\nb', '\ud800'], 'contains control characters or lone surrogates'],
  ['LOOM_PG_STATE_KEY', ['x'.repeat(129), 'ü'.repeat(65)], 'bytes; the maximum is 128'],
] as const)('%s is refused with the expected form', (name, values, expected) => {
  for (const value of values) {
    const problems = problemsOf({ [name]: value });
    expect(problems).toEqual([expect.stringContaining(expected)]);
    expect(problems[0]).toContain(`${name} `);
  }
});

test('a state key of exactly 128 bytes is accepted', () => {
  expect(parse({ LOOM_PG_STATE_KEY: 'ü'.repeat(64) }).postgres.stateKey).toHaveLength(64);
});

describe('tokens', () => {
  test('can be a pair during a rotation', () => {
    expect(parse({ LOOM_ADMIN_TOKEN: `${ADMIN},${ADMIN}-next` }).tokens.admin).toEqual([ADMIN, `${ADMIN}-next`]);
  });

  test.each([
    ['fifteen-letters', 'at least 16'],
    [`${ADMIN},short`, 'at least 16'],
    [`${ADMIN},`, 'at least 16'],
    [`${ADMIN},${ADMIN}-2,${ADMIN}-3`, 'one token, or two'],
    [`${ADMIN}, ${ADMIN}-next`, 'without spaces'],
    [`${ADMIN}-ü`, 'printable ASCII'],
    [`${ADMIN}\t`, 'printable ASCII'],
    ['x'.repeat(1_025), 'at most 1024'],
  ])('are refused when they are %j', (token, expected) => {
    for (const name of ['LOOM_ADMIN_TOKEN', 'LOOM_CLIENT_TOKEN', 'LOOM_METRICS_TOKEN']) {
      const problems = problemsOf({ [name]: token }).filter((problem) => !problem.includes('must differ'));
      expect(problems).toEqual([expect.stringContaining(expected)]);
      expect(problems[0]).not.toContain(token);
    }
  });

  test('for client and admin must differ, also during a rotation', () => {
    const problems = problemsOf({
      LOOM_ADMIN_TOKEN: `${ADMIN},${ADMIN}-next`,
      LOOM_CLIENT_TOKEN: `${CLIENT},${ADMIN}-next`,
    });
    expect(problems).toEqual(['LOOM_CLIENT_TOKEN must differ from LOOM_ADMIN_TOKEN']);
  });
});

describe('secrets in files', () => {
  test('lose one trailing newline, which editors and heredocs add', () => {
    const files = { '/s/url': `${URL}\n`, '/s/admin': `${ADMIN}\r\n`, '/s/client': CLIENT };
    const env = {
      LOOM_PG_URL: undefined,
      LOOM_ADMIN_TOKEN: undefined,
      LOOM_PG_URL_FILE: '/s/url',
      LOOM_ADMIN_TOKEN_FILE: '/s/admin',
      LOOM_CLIENT_TOKEN_FILE: '/s/client',
    };
    expect(parse(env, files)).toEqual(parse({ LOOM_CLIENT_TOKEN: CLIENT }));
  });

  test('are reported with path and reason when the file could not be read', () => {
    expect(problemsOf({ LOOM_ADMIN_TOKEN: undefined, LOOM_ADMIN_TOKEN_FILE: '/s/none' })).toEqual([
      'LOOM_ADMIN_TOKEN_FILE names a file that could not be read (ENOENT): /s/none',
    ]);
  });

  test('are reported as an empty file instead of a missing variable', () => {
    expect(problemsOf({ LOOM_ADMIN_TOKEN: undefined, LOOM_ADMIN_TOKEN_FILE: '/s/a' }, { '/s/a': '\n' })).toEqual([
      'LOOM_ADMIN_TOKEN_FILE names an empty file: /s/a',
    ]);
  });

  test('are reported under the name of the file variable, without their content', () => {
    const files = { '/s/a': 'hunter2\n\n' };
    const problems = problemsOf({ LOOM_ADMIN_TOKEN: undefined, LOOM_ADMIN_TOKEN_FILE: '/s/a' }, files);
    expect(problems).toEqual([expect.stringMatching(/^LOOM_ADMIN_TOKEN_FILE must/)]);
    expect(problems[0]).not.toContain('hunter2');
  });

  test('are refused when both forms are set', () => {
    expect(problemsOf({ LOOM_ADMIN_TOKEN_FILE: '/s/a' }, { '/s/a': ADMIN })).toEqual([
      'LOOM_ADMIN_TOKEN and LOOM_ADMIN_TOKEN_FILE are both set: set only one of them',
    ]);
  });

  test('for client and admin must differ', () => {
    expect(problemsOf({ LOOM_CLIENT_TOKEN_FILE: '/s/c' }, { '/s/c': ADMIN })).toEqual([
      'LOOM_CLIENT_TOKEN must differ from LOOM_ADMIN_TOKEN',
    ]);
  });
});

describe('LOOM_PG_SSL_CA', () => {
  let pem: string;
  beforeAll(async () => {
    pem = (await generate([{ name: 'commonName', value: 'a CA' }], { keyType: 'ec', algorithm: 'sha256' })).cert;
  });

  test('is the path of a file, the PEM text, or the PEM text with \\n as line breaks', () => {
    const files = { '/ca.pem': pem };
    for (const given of ['/ca.pem', pem, pem.replaceAll('\n', '\\n')]) {
      const { ssl } = parse({ LOOM_PG_SSL: 'true', LOOM_PG_SSL_CA: given }, files).postgres;
      expect(ssl).toMatchObject({
        rejectUnauthorized: true,
        ca: expect.stringContaining(pem.trim().split('\n')[1] ?? '?'),
      });
      expect(ssl === false ? '' : ssl.ca).not.toContain('\\n');
    }
  });

  test('can be a bundle, and every certificate in it is checked', () => {
    const spoiled = pem.replace(/[A-Za-z0-9+/]{20}/, 'A'.repeat(20));
    expect(problemsOf({ LOOM_PG_SSL: 'true', LOOM_PG_SSL_CA: `${pem}\n${pem}` })).toEqual([]);
    for (const bad of [`${pem}\n${spoiled}`, `${pem}\n${pem.slice(0, 200)}`, spoiled, '-----BEGIN CERTIFICATE-----'])
      expect(problemsOf({ LOOM_PG_SSL: 'true', LOOM_PG_SSL_CA: bad })).toEqual([
        expect.stringContaining('LOOM_PG_SSL_CA must be certificates in PEM form'),
      ]);
  });

  test('is refused when the file cannot be read or has no certificate', () => {
    const files = { '/key.pem': 'no certificate' };
    expect(problemsOf({ LOOM_PG_SSL: '1', LOOM_PG_SSL_CA: '/none.pem' }, files)).toEqual([
      'LOOM_PG_SSL_CA names a file that could not be read (ENOENT): /none.pem',
    ]);
    expect(problemsOf({ LOOM_PG_SSL: '1', LOOM_PG_SSL_CA: '/key.pem' }, files)).toHaveLength(1);
  });

  test('is refused without LOOM_PG_SSL', () => {
    const problem = 'LOOM_PG_SSL_CA is set, but LOOM_PG_SSL is not true: set it to true, or remove LOOM_PG_SSL_CA';
    expect(problemsOf({ LOOM_PG_SSL_CA: pem })).toEqual([problem]);
  });
});

describe('unknown variables', () => {
  test.each([
    ['LOOM_PG_POOLMAX', 'LOOM_PG_POOL_MAX'],
    ['LOOM_ADMIN_TOKENS', 'LOOM_ADMIN_TOKEN'],
    ['LOOM_PG_URL_FLIE', 'LOOM_PG_URL_FILE'],
    ['LOOM_SHUTDOWN_DELAY', 'LOOM_SHUTDOWN_DELAY_MS'],
  ])('%s gets the suggestion %s', (name, meant) => {
    expect(problemsOf({ [name]: '1' })).toEqual([`${name} is not a variable of LOOM; did you mean ${meant}?`]);
  });

  test('get no suggestion without a similar name', () => {
    expect(problemsOf({ LOOM_FLUX_CAPACITOR: 'on' })).toEqual(['LOOM_FLUX_CAPACITOR is not a variable of LOOM']);
  });

  test('are reported only when they begin with LOOM_ and are set', () => {
    expect(problemsOf({ PATH: '/bin', LOOMING: 'x', LOOM_WHATEVER: '', LOOM_TEST_PG_URL: URL })).toEqual([]);
  });

  test('are ignored when Kubernetes sets them for a Service named loom or loom-postgres', () => {
    const config = parse({
      LOOM_PORT: 'tcp://10.0.0.1:9999',
      LOOM_SERVICE_HOST: '10.0.0.1',
      LOOM_SERVICE_PORT: '8787',
      LOOM_SERVICE_PORT_HTTP: '8787',
      LOOM_PORT_8787_TCP: 'tcp://10.0.0.1:8787',
      LOOM_PORT_8787_TCP_ADDR: '10.0.0.1',
      LOOM_POSTGRES_SERVICE_HOST: '10.0.0.2',
      LOOM_POSTGRES_PORT: 'tcp://10.0.0.2:5432',
      LOOM_POSTGRES_PORT_5432_TCP_PROTO: 'tcp',
    });
    expect(config).toEqual(parse({}));
  });
});

test('no problem repeats the value of any variable', () => {
  const values = ['hunter2', 'postgres://loom:hunter2@h/d?sslmode=hunter2', '-----BEGIN hunter2', 'hunter2,hunter2,x'];
  const names = configVariables().flatMap(({ name }) => [name, `${name}_FILE`]);
  for (const name of names)
    for (const value of values) expect(problemsOf({ [name]: value }).join('\n')).not.toContain('hunter2');
});

test('the exit code of an invalid configuration is 78', () => {
  expect(CONFIG_EXIT_CODE).toBe(78);
});
