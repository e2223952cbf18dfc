import { describe, expect, test } from 'vitest';
import { ConfigError, parseConfig } from '../../src/config/config.ts';

const readFile = (): string => {
  throw new Error('this configuration names no file');
};

function parse(env: Record<string, string>) {
  const required = { LOOM_PG_URL: 'postgres://loom@localhost/loom', LOOM_ADMIN_TOKEN: 'admin-token-of-the-tests' };
  return parseConfig({ ...required, ...env }, { readFile });
}

function problemsOf(env: Record<string, string>): readonly string[] {
  try {
    parse(env);
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
  return [];
}

describe('LOOM_TRUST_PROXY', () => {
  test.each([
    ['false', false],
    ['0', false],
    ['true', 1],
    ['TRUE', 1],
    ['1', 1],
    ['32', 32],
    ['127.0.0.1', ['127.0.0.1']],
    ['loopback, 10.1.0.0/16,2001:DB8::1', ['127.0.0.0/8', '::1/128', '10.1.0.0/16', '2001:db8::1']],
    ['linklocal', ['169.254.0.0/16', 'fe80::/10']],
    ['uniquelocal', ['10.0.0.0/8', '172.16.0.0/12', '192.168.0.0/16', 'fc00::/7']],
  ])('%j means %j', (text, proxies) => {
    expect(parse({ LOOM_TRUST_PROXY: text }).http.trustProxy).toEqual(proxies);
  });

  test.each([
    ...['yes', '-1', '33', '1.5', '*', 'a.example', 'loopback,', '10.0.0.1/'],
    ...['10.0.0.0/33', '::1/129', '10.0.0.0/8/8', 'fe80::1%eth0', 'toString'],
    // Whoever trusts all addresses believes what clients write.
    ...['0.0.0.0/0', '::/0'],
  ])('refuses %j', (text) => {
    const expected = 'LOOM_TRUST_PROXY must be false, true, a number of proxies up to 32, or a list of addresses';
    expect(problemsOf({ LOOM_TRUST_PROXY: text })).toEqual([expect.stringContaining(expected)]);
  });
});

describe('LOOM_HOST', () => {
  test.each([
    ['[::1]', '::1'],
    ['::', '::'],
    ['localhost', 'localhost'],
    ['127.0.0.1', '127.0.0.1'],
  ])('%s means %s', (text, host) => {
    expect(parse({ LOOM_HOST: text }).http.host).toBe(host);
  });

  test.each(['localhost:8787', '127.0.0.1:80', '[::1', '[::1]:8787', '[localhost]', '1::2::3'])(
    'refuses %s',
    (text) => {
      expect(problemsOf({ LOOM_HOST: text })).toEqual([
        expect.stringContaining('LOOM_HOST must be an address or host name'),
      ]);
    },
  );
});
