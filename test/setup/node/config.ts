import { type Config, parseConfig } from '../../../src/config/config.ts';
import { nodeUrl } from '../roles/node-url.ts';

/** Returns the configuration of a node on this database. `variables` override the defaults. */
export function testConfig(url: string, variables: Record<string, string> = {}): Config {
  const env = {
    LOOM_PG_URL: nodeUrl(url),
    LOOM_ADMIN_TOKEN: 'an-admin-token-for-tests',
    LOOM_PORT: '0',
    ...variables,
  };
  return parseConfig(env, { readFile: () => '' });
}
