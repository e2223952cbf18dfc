import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { appendFile, cp, mkdir, mkdtemp, readFile, realpath, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { isInstalled, runTool, runToolToEnd } from './tools.ts';

/** Increases with each change of what `prepareBase` makes. */
const RECIPE = 1;

/**
 * Makes a stand-in for the base image, with the smallest system of this machine's release, and this machine's Node.js
 * and npm. It needs a mirror of Debian or Ubuntu but no registry of images. Returns its store. The store stays in the
 * directory for temporary files, under a name that changes with its contents, because making it takes a minute.
 */
export async function prepareBase(name: string): Promise<string> {
  const release = /^VERSION_CODENAME="?(\w+)"?$/m.exec(await readFile('/etc/os-release', 'utf8'))?.[1] ?? '';
  const npm = dirname(dirname(await realpath(programPath('npm'))));
  const settings = await npmSettings();
  const contents = [RECIPE, name, release, process.version, process.arch, await readFile(join(npm, 'package.json'))];
  const key = createHash('sha256')
    .update([...contents, ...Object.values(settings)].join('\n'))
    .digest('hex');
  const store = join(tmpdir(), `loom-test-base-${key.slice(0, 16)}`);
  if (existsSync(store)) return store;

  const place = await mkdtemp(`${store}-`);
  try {
    const files = join(place, 'files');
    await runToolToEnd('debootstrap', ['--variant=minbase', release, files]);
    for (const path of ['var/cache/apt', 'var/lib/apt/lists']) await rm(join(files, path), { recursive: true });
    await appendFile(join(files, 'etc/passwd'), 'node:x:1000:1000::/home/node:/bin/bash\n');
    await appendFile(join(files, 'etc/group'), 'node:x:1000:\n');
    const local = join(files, 'usr/local');
    await mkdir(join(local, 'etc'), { recursive: true });
    await cp(process.execPath, join(local, 'bin/node'));
    await cp(npm, join(local, 'lib/node_modules/npm'), { recursive: true, verbatimSymlinks: true });
    await symlink('../lib/node_modules/npm/bin/npm-cli.js', join(local, 'bin/npm'));
    for (const [path, text] of Object.entries(settings)) await writeFile(join(files, path), text);
    await commit(name, files, place);
    // A second run at the same time may have made it.
    if (!existsSync(store)) await rename(join(place, 'store'), store);
    return store;
  } finally {
    await rm(place, { recursive: true, force: true });
  }
}

/** Makes an image of the files, in the store of `place`. */
async function commit(name: string, files: string, place: string): Promise<void> {
  const buildah = async (...parameters: string[]): Promise<string> => {
    const own = ['--root', join(place, 'store'), '--runroot', join(place, 'run'), '--storage-driver', 'vfs'];
    return (await runToolToEnd('buildah', [...own, ...parameters])).trim();
  };
  const container = await buildah('from', 'scratch');
  await buildah('copy', '--quiet', container, files, '/');
  const path = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin';
  await buildah('config', '--env', `PATH=${path}`, '--cmd', 'node', container);
  await buildah('commit', '--quiet', '--format', 'docker', container, name);
  await buildah('rm', container);
}

/** Returns the files that make npm use the registry of this machine, and trust it. */
async function npmSettings(): Promise<Record<string, string>> {
  const settingOf = (name: string): string => runTool('npm', ['config', 'get', name]).trim();
  const [registry, authorities] = [settingOf('registry'), settingOf('cafile')];
  if (authorities === 'null') return { 'usr/local/etc/npmrc': `registry=${registry}\n` };
  return {
    'usr/local/etc/npmrc': `registry=${registry}\ncafile=/usr/local/etc/npm-authorities.pem\n`,
    'usr/local/etc/npm-authorities.pem': await readFile(authorities, 'utf8'),
  };
}

function programPath(program: string): string {
  if (!isInstalled(program)) throw new Error(`${program} is not installed`);
  return runTool('sh', ['-c', 'command -v "$0"', program]).trim();
}
