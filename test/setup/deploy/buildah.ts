import { rmSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { isRoot } from '../../../src/dev/processes.ts';
import type { ContainerOptions, Runtime } from './containers.ts';
import { baseImage, repositoryRoot } from './dockerfile.ts';
import type { BuiltImage, ImageConfig } from './image.ts';
import { prepareBase } from './stand-in.ts';
import { isInstalled, runToolToEnd } from './tools.ts';

/** Returns what this machine lacks to build an image without an engine; undefined if it has all of it. */
export function whyNoBuildah(): string | undefined {
  if (process.platform !== 'linux' || !isRoot()) return 'buildah needs Linux and root here';
  const missing = ['buildah', 'debootstrap', 'runc'].filter((program) => !isInstalled(program));
  return missing.length === 0 ? undefined : `not installed: ${missing.join(', ')}`;
}

interface Inspected {
  Docker: { config: ImageConfig };
  FromImageDigest: string;
  Manifest: string;
}

/**
 * Builds the image by buildah, in a store of its own. Its base is a stand-in for the image of Node.js. runc, which also
 * runs the containers of Docker and of Kubernetes, runs it.
 */
export async function openBuildah(buildArguments: Record<string, string>): Promise<BuiltImage> {
  const baseStore = await prepareBase(baseImage);
  const place = await mkdtemp(join(tmpdir(), 'loom-test-image-'));
  const buildah = (...parameters: string[]): Promise<string> =>
    runToolToEnd('buildah', [
      ...['--root', join(place, 'store'), '--runroot', join(place, 'run'), '--storage-driver', 'vfs'],
      ...['--storage-opt', `vfs.imagestore=${baseStore}`, ...parameters],
    ]);
  const removePlace = (): void => rmSync(place, { recursive: true, force: true });
  process.once('exit', removePlace);
  const remove = async (): Promise<void> => {
    await buildah('rm', '--all');
    process.off('exit', removePlace);
    await rm(place, { recursive: true, force: true });
  };
  try {
    const inspect = async (image: string): Promise<Inspected> =>
      JSON.parse(await buildah('inspect', '--type', 'image', image));
    const ofBase = await inspect(baseImage);
    const base = `${baseImage.replace(/:[^:/]+$/, '')}@${ofBase.FromImageDigest}`;
    const image = 'localhost/loom-test';
    const given = Object.entries({ ...buildArguments, NODE_IMAGE: base });
    await buildah(
      ...['build', '--isolation', 'chroot', '--network', 'host', '--pull-never', '--format', 'docker', '--jobs', '2'],
      ...given.flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]),
      ...['--tag', image, repositoryRoot],
    );
    const built = await inspect(image);
    const { config } = built.Docker;
    const root = (await buildah('mount', (await buildah('from', '--pull-never', image)).trim())).trim();
    const runtime = runcRuntime(join(place, 'containers'), root, config);
    return { config, bytesAboveBase: bytesOf(built) - bytesOf(ofBase), base, runtime, remove };
  } catch (error) {
    await remove().catch(() => undefined);
    throw error;
  }
}

function bytesOf({ Manifest: text }: Inspected): number {
  const { layers } = JSON.parse(text) as { layers: { size: number }[] };
  return layers.reduce((sum, { size }) => sum + size, 0);
}

function runcRuntime(directory: string, root: string, config: ImageConfig): Runtime {
  const runc = ['runc', '--root', join(directory, 'state')];
  return {
    run: async (name, options) => {
      const bundle = join(directory, name);
      await mkdir(bundle, { recursive: true });
      await writeFile(join(bundle, 'config.json'), JSON.stringify(bundleConfig(root, config, options)));
      return [...runc, 'run', '--bundle', bundle, name];
    },
    exec: (name, command) => [...runc, 'exec', name, ...command],
    signal: (name, signal) => [...runc, 'kill', name, signal],
    state: (name) => [...runc, 'state', name],
  };
}

/** Returns the configuration of a container by the runtime specification of OCI. */
function bundleConfig(root: string, config: ImageConfig, options: ContainerOptions): object {
  const { args = config.Cmd, command = [...config.Entrypoint, ...args], env = {}, mounts = [], writable } = options;
  const [uid, gid] = config.User.split(':').map(Number);
  return {
    ociVersion: '1.0.0',
    root: { path: root, readonly: writable !== true },
    process: {
      terminal: false,
      user: { uid, gid },
      args: command,
      // A later value of a variable counts.
      env: [...config.Env, ...Object.entries(env).map(([name, value]) => `${name}=${value}`)],
      cwd: config.WorkingDir,
      noNewPrivileges: true,
      capabilities: { bounding: [], effective: [], permitted: [], inheritable: [], ambient: [] },
    },
    mounts: [
      { destination: '/proc', type: 'proc', source: 'proc' },
      { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755', 'size=64k'] },
      ...mounts.map(({ source, target, writable: isWritable }) => ({
        destination: target,
        type: 'bind',
        source,
        options: ['bind', isWritable === true ? 'rw' : 'ro'],
      })),
    ],
    // A process namespace of its own: the first process of the container is process 1. The network is the machine's.
    linux: { namespaces: ['pid', 'mount', 'ipc', 'uts'].map((type) => ({ type })) },
  };
}
