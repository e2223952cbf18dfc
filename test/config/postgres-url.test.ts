import { describe, expect, test } from 'vitest';
import { ConfigError, parseConfig } from '../../src/config/config.ts';
import { parsePostgresUrl } from '../../src/config/postgres-url.ts';
import { limits } from '../../src/limits.ts';

/** Returns the parts that a URL sets. */
function parts(url: string) {
  const parsed = parsePostgresUrl(url);
  if ('fault' in parsed) throw new Error(parsed.fault);
  const { hosts, ...rest } = parsed;
  const named = Object.entries(rest).filter(([, value]) => value !== undefined);
  return { hosts: hosts.map(({ host = '', port = '' }) => `${host} ${port}`.trim()), ...Object.fromEntries(named) };
}

function faultOf(url: string): string {
  const parsed = parsePostgresUrl(url);
  return 'fault' in parsed ? parsed.fault : 'accepted';
}

describe('LOOM_PG_URL', () => {
  test.each([
    ['postgres://u:p@h1:5432,h2:5433/d', { hosts: ['h1 5432', 'h2 5433'], user: 'u', password: 'p', database: 'd' }],
    ['postgresql://h1,h2,h3/d', { hosts: ['h1', 'h2', 'h3'], database: 'd' }],
    ['postgres://u@h1,h2:5433/', { hosts: ['h1', 'h2 5433'], user: 'u' }],
    ['postgres://u@/d?host=h1,h2&port=5433', { hosts: ['h1 5433', 'h2 5433'], user: 'u', database: 'd' }],
    ['postgres://u@/d?host=h1,h2&port=1,2', { hosts: ['h1 1', 'h2 2'], user: 'u', database: 'd' }],
    ['postgres://u@h1:1,h2:2/d?port=3', { hosts: ['h1 3', 'h2 3'], user: 'u', database: 'd' }],
    ['postgres://u@[::1]:5432,[fe80::1%25eth0],10.0.0.1/d', { hosts: ['::1 5432', 'fe80::1%eth0', '10.0.0.1'] }],
    ['postgres://u@/d?host=::1,fe80::2', { hosts: ['::1', 'fe80::2'] }],
    ['postgres://u@/d?host=/var/run/postgresql,/tmp', { hosts: ['/var/run/postgresql', '/tmp'] }],
    ['postgres://u@%2Fvar%2Frun%2Fpostgresql:5433/d', { hosts: ['/var/run/postgresql 5433'] }],
    ['postgres://h/a%2Fb%23c%3Fd%25', { hosts: ['h'], database: 'a/b#c?d%' }],
    ['postgres://a%40b:p%40%3A%2F@h/d', { user: 'a@b', password: 'p@:/' }],
    ['postgres://user:@h/d', { user: 'user' }],
    ['postgres://h', { hosts: ['h'] }],
    ['postgres://', { hosts: [''] }],
    ['postgres://u@/d', { hosts: [''], user: 'u', database: 'd' }],
    [
      'postgres://h/d?application_name=x%26y&options=-c%20search_path%3Dloom',
      { applicationName: 'x&y', options: '-c search_path=loom' },
    ],
  ])('%s', (url, expected) => {
    expect(parts(url)).toMatchObject(expected);
    if (!('password' in expected)) expect(parts(url)).not.toHaveProperty('password');
  });

  test.each([
    ['h', 'any'],
    ['h1,h2', 'read-write'],
    ['h1,h2/d?target_session_attrs=any', 'any'],
    ['h/d?target_session_attrs=read-write', 'read-write'],
    ['h1,h2/d?target_session_attrs=primary', 'primary'],
  ])('of %s accepts a server that is %s', (rest, accepts) => {
    expect(parts(`postgres://${rest}`)).toMatchObject({ accepts });
  });

  test.each([
    ['h1,,h2/d', 'empty host in its list'],
    ['h1,/d', 'empty host in its list'],
    ['/d?host=h1,h2,h3&port=1,2', 'has 3 hosts but 2 ports'],
    ['h1:1:2/d', 'must have the form'],
    ['h1:0/d', 'must have the form'],
    ['h1:65536,h2/d', 'must have the form'],
    ['h1:x,h2/d', 'must have the form'],
    ['[::1/d', 'must have the form'],
    ['[hunter2]/d', 'must have the form'],
    ['h/%zz', 'must have the form'],
    ['h/d%00', 'must have the form'],
    ['h/d#f', 'must have the form'],
    ['h/d?port=x', 'must have the form'],
    ['h/d?target_session_attrs=standby', 'has a target_session_attrs that LOOM cannot use'],
    ['h/d?target_session_attrs=read-only', 'has a target_session_attrs that LOOM cannot use'],
    ['h/d?hunter2=1', 'has an unknown query parameter'],
    ['h1,h2/d?sslmode=hunter2', 'has the parameter sslmode'],
    [Array.from({ length: limits.maxDatabaseHosts + 1 }, (_, index) => `h${index}`).join(), 'more than 8 hosts'],
  ])('with %s is refused, and the reason does not repeat it', (rest, words) => {
    const fault = faultOf(`postgres://loom:hunter2@${rest}`);
    expect(fault).toContain(words);
    expect(fault).not.toContain('hunter2');
  });
});

function parse(url: string) {
  const env = { LOOM_PG_URL: url, LOOM_ADMIN_TOKEN: 'an-admin-token-for-tests' };
  return parseConfig(env, { readFile: () => '' });
}

function problemsOf(url: string): readonly string[] {
  try {
    parse(url);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe('the configuration', () => {
  test.each([
    'postgresql://u:p@h/d',
    'postgres://localhost/loom',
    'postgres://u:p%40ss%2Fw%23rd@[::1]:5433/d',
    'postgres://u@%2Fvar%2Frun%2Fpostgresql/d',
    'postgres://u:p@/d?host=/var/run/postgresql',
    'postgres://u:p@h/d?application_name=x&options=-c%20search_path%3Dloom',
  ])('accepts %s', (url) => {
    expect(parse(url).postgres.url).toBe(url);
  });

  test.each([
    'mysql://loom:hunter2@h/d',
    'hunter2',
    'loom:hunter2@h/d',
    'postgres://loom:hunter2#x@h/d',
    'postgres://loom:1234#hunter2@h/d',
    'postgres://loom:hunter2/x@h/d',
    'postgres://loom:1234/hunter2@h/d',
    'postgres://loom:1234?hunter2@h/d',
    'postgres://loom:hunter2%@h/d',
    'postgres://loom:hunter2@h:99999/d',
    'postgres://loom:hunter2@a,b:5432/d?hunter2=1',
    'postgres://loom:hunter2 @h/d',
    'postgres://loom:hunter2@h/d\n',
  ])('is refused without repeating the value: %j', (url) => {
    const problems = problemsOf(url);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(/^LOOM_PG_URL (must have the form postgres:|has an unknown query parameter)/);
    expect(problems[0]).not.toMatch(/hunter2|1234/);
  });

  test.each(['sslmode=disable', 'ssl=true', 'sslrootcert=/x', 'uselibpqcompat=true&sslmode=require'])(
    'refuses %s, which would override LOOM_PG_SSL',
    (query) => {
      const problems = problemsOf(`postgres://loom:secret@h/d?${query}`);
      expect(problems).toEqual([expect.stringContaining('set LOOM_PG_SSL, LOOM_PG_SSL_CA')]);
    },
  );
});

describe('LOOM_PG_STREAMS_MAX', () => {
  const streamsOf = (poolMax: string, streamsMax = '') => {
    const env = {
      LOOM_PG_URL: 'postgres://h/d',
      LOOM_ADMIN_TOKEN: 'an-admin-token-for-tests',
      LOOM_PG_POOL_MAX: poolMax,
      LOOM_PG_STREAMS_MAX: streamsMax,
    };
    return parseConfig(env, { readFile: () => '' }).postgres.streamsMax;
  };

  test('is half of the pool by default, and never its last two connections', () => {
    expect(['3', '4', '5', '10', '11', '200'].map((poolMax) => streamsOf(poolMax))).toEqual([1, 2, 2, 5, 5, 100]);
    expect([streamsOf('10', '8'), streamsOf('10', '1')]).toEqual([8, 1]);
    expect(() => streamsOf('10', '9')).toThrow('LOOM_PG_STREAMS_MAX must be at most 8, because LOOM_PG_POOL_MAX is 10');
    expect(() => streamsOf('10', '0')).toThrow('LOOM_PG_STREAMS_MAX must be a whole number from 1 to 198');
  });
});
