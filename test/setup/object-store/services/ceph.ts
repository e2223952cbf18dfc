import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Ground, LocalService } from './local-service.ts';

const credentials = { accessKeyId: 'loom-test', secretAccessKey: 'loom-test-secret' };

/** One monitor, one OSD that keeps its objects in memory, and the gateway with the interface of S3. */
export const ceph: LocalService = {
  name: 'Ceph',
  programs: ['ceph', 'ceph-authtool', 'monmaptool', 'ceph-mon', 'ceph-osd', 'radosgw', 'radosgw-admin'],
  packages: "Debian's radosgw, ceph-mon and ceph-osd",
  checksKeys: true,
  datesUploads: true,
  hasPolicies: true,
  hasLocks: true,
  start: async (ground) => {
    const { directory, launch } = ground;
    const cluster: Cluster = {
      fsid: randomUUID(),
      monitor: `v2:127.0.0.1:${await ground.freePort()}`,
      keyring: join(directory, 'keyring'),
    };
    const file = join(directory, 'ceph.conf');
    await mkdir(join(directory, 'mon'));
    await mkdir(join(directory, 'osd'));
    await writeFile(file, configurationOf(ground, cluster));
    const run = (program: string, ...args: string[]) => ground.run(program, ['--conf', file, ...args]);
    const start = (program: string, ...args: string[]) => launch(program, ['--foreground', '--conf', file, ...args]);

    await createKeys(ground, cluster);
    const map = join(directory, 'monmap');
    await ground.run('monmaptool', ['--create', '--fsid', cluster.fsid, '--addv', 'a', `[${cluster.monitor}]`, map]);
    await run('ceph-mon', '--id', 'a', '--mkfs', '--monmap', map, '--keyring', cluster.keyring);
    start('ceph-mon', '--id', 'a');
    const osd = randomUUID();
    await run('ceph', '--connect-timeout', '60', 'osd', 'new', osd, '0');
    await run('ceph-osd', '--id', '0', '--mkfs', '--osd-uuid', osd);
    start('ceph-osd', '--id', '0');
    while (!(await run('ceph', 'osd', 'stat')).includes(' 1 up')) await sleep(500);
    start('radosgw', '--name', 'client.admin', '--keyring', cluster.keyring);
    const keys = ['--access-key', credentials.accessKeyId, '--secret-key', credentials.secretAccessKey];
    await run('radosgw-admin', 'user', 'create', '--uid', 'loom', '--display-name', 'loom', ...keys);
    return credentials;
  },
};

interface Cluster {
  fsid: string;
  /** Address of the monitor, in the notation of Ceph. */
  monitor: string;
  keyring: string;
}

async function createKeys({ run }: Ground, { keyring }: Cluster): Promise<void> {
  const caps = (...names: string[]): string[] => names.flatMap((name) => ['--cap', name, 'allow *']);
  const keys = { 'mon.': caps('mon'), 'client.admin': caps('mon', 'osd', 'mgr'), 'osd.0': caps('mon', 'osd') };
  await run('ceph-authtool', ['--create-keyring', keyring]);
  for (const [name, given] of Object.entries(keys))
    await run('ceph-authtool', [keyring, '--gen-key', '--name', name, ...given]);
}

function configurationOf({ directory, port }: Ground, { fsid, monitor, keyring }: Cluster): string {
  return `[global]
fsid = ${fsid}
mon initial members = a
mon host = ${monitor}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind ipv6 = false
keyring = ${keyring}
run dir = ${directory}
log file = ${directory}/$name.log
admin socket = ${directory}/$name.$pid.asok
pid file =
client mount timeout = 60
mon allow pool size one = true
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
osd objectstore = memstore
memstore device bytes = 2147483648
[mon.a]
mon data = ${directory}/mon
[osd.0]
osd data = ${directory}/osd
[client.admin]
rgw frontends = beast endpoint=127.0.0.1:${port}
`;
}
