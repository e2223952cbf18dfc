import { type Config, parseConfig } from '../../../src/config/config.ts';
import { asServingRole } from '../roles/roles.ts';

/** Returns the configuration of a node on this database. `variables` override the defaults. */
export function testConfig(url: string, variables: Record<string, string> = {}): Config {
  const env = {
    LOOM_PG_URL: asServingRole(url),
    LOOM_ADMIN_TOKEN: 'an-admin-token-for-tests',
    LOOM_PORT: '0',
    ...variables,
  };
  return parseConfig(env, { readFile: () => '' });
}
