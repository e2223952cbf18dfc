import { expect, test } from 'vitest';
import { ConfigError, configSecrets, parseConfig } from '../../src/config/config.ts';

const ADMIN = 'admin-token-0123456789';
const CLIENT = 'client-token-0123456789';
const METRICS = 'metrics-token-0123456789';

function parse(env: Record<string, string>, files: Record<string, string> = {}) {
  const required = { LOOM_PG_URL: 'postgres://loom@db/loom', LOOM_ADMIN_TOKEN: ADMIN };
  return parseConfig({ ...required, ...env }, { readFile: (path) => files[path] ?? '' });
}

test('the metrics token is optional, can come from a file, and is a secret', () => {
  expect(parse({}).tokens.metrics).toBeUndefined();
  const config = parse({ LOOM_METRICS_TOKEN_FILE: '/s/m' }, { '/s/m': `${METRICS},${METRICS}-next\n` });
  expect(config.tokens.metrics).toEqual([METRICS, `${METRICS}-next`]);
  expect(configSecrets(config)).toContain(`${METRICS}-next`);
});

test.each([
  [{ LOOM_METRICS_TOKEN: ADMIN }, 'LOOM_METRICS_TOKEN must differ from LOOM_ADMIN_TOKEN'],
  [{ LOOM_CLIENT_TOKEN: CLIENT, LOOM_METRICS_TOKEN: CLIENT }, 'LOOM_METRICS_TOKEN must differ from LOOM_CLIENT_TOKEN'],
])('the metrics token differs from the other tokens: %j', (env, problem) => {
  expect(() => parse(env)).toThrow(ConfigError);
  expect(() => parse(env)).toThrow(`- ${problem}`);
});
