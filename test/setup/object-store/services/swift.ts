import { mkdir, writeFile } from 'node:fs/promises';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import type { Ground, LocalService } from './local-service.ts';

const parts = ['account', 'container', 'object'] as const;

/** OpenStack Swift with its middleware s3api, without replicas, in one folder. */
export const swift: LocalService = {
  name: 'OpenStack Swift',
  programs: ['memcached', 'swift-ring-builder', 'swift-proxy-server', ...parts.map((part) => `swift-${part}-server`)],
  packages: "Debian's swift-proxy, swift-account, swift-container, swift-object and memcached",
  checksKeys: true,
  datesUploads: true,
  hasPolicies: false,
  hasLocks: false,
  start: async (ground) => {
    const { directory, freePort, launch, run, untilListening } = ground;
    await mkdir(join(directory, 'devices', 'disk'), { recursive: true });
    await writeFile(join(directory, 'swift.conf'), '[swift-hash]\nswift_hash_path_suffix = loom-test\n');
    const servers: number[] = [];
    for (const part of parts) {
      const port = await freePort();
      servers.push(port);
      const ring = join(directory, `${part}.builder`);
      await run('swift-ring-builder', [ring, 'create', '4', '1', '0']);
      await run('swift-ring-builder', [ring, 'add', `r1z1-127.0.0.1:${port}/disk`, '1']);
      await run('swift-ring-builder', [ring, 'rebalance']);
      await startServer(ground, `${part}-server`, port, serverOf(part, directory));
    }
    const cache = await freePort();
    servers.push(cache);
    launch('memcached', ['-l', '127.0.0.1', '-p', String(cache), '-u', userInfo().username]);
    // The proxy avoids a server for a minute that did not answer at first.
    for (const port of servers) await untilListening(port);
    await startServer(ground, 'proxy-server', ground.port, proxyWith(cache));
    return { accessKeyId: 'test:tester', secretAccessKey: 'testing' };
  },
};

async function startServer({ directory, launch }: Ground, name: string, port: number, sections: string): Promise<void> {
  const file = join(directory, `${name}.conf`);
  const common = `swift_dir = ${directory}\nuser = ${userInfo().username}\nworkers = 0`;
  await writeFile(file, `[DEFAULT]\nbind_ip = 127.0.0.1\nbind_port = ${port}\n${common}\n${sections}`);
  launch(`swift-${name}`, ['--verbose', file]);
}

function serverOf(part: string, directory: string): string {
  return `devices = ${directory}/devices
mount_check = false
[pipeline:main]
pipeline = ${part}-server
[app:${part}-server]
use = egg:swift#${part}
`;
}

const filters = 'catch_errors memcache listing_formats bulk s3api tempauth copy slo dlo versioned_writes symlink'.split(
  ' ',
);

function proxyWith(cachePort: number): string {
  const options: Record<string, string> = {
    memcache: `memcache_servers = 127.0.0.1:${cachePort}`,
    tempauth: 'user_test_tester = testing .admin',
    versioned_writes: 'allow_object_versioning = true',
  };
  const sections = filters.map((name) => `[filter:${name}]\nuse = egg:swift#${name}\n${options[name] ?? ''}\n`);
  return `[pipeline:main]
pipeline = ${filters.join(' ')} proxy-server
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
${sections.join('')}`;
}
