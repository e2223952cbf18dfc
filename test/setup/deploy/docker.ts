import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import type { ContainerOptions, Runtime } from './containers.ts';
import { baseImage, repositoryRoot } from './dockerfile.ts';
import type { BuiltImage, ImageConfig } from './image.ts';
import { runTool, runToolToEnd } from './tools.ts';

interface Inspected {
  Id: string;
  Config: ImageConfig;
  Size: number;
  RepoDigests: string[];
}

export function dockerAnswers(): boolean {
  return spawnSync('docker', ['version'], { stdio: 'ignore' }).status === 0;
}

/** Builds the image by Docker. Its base is the one of this machine, or comes from the registry. */
export async function openDocker(buildArguments: Record<string, string>): Promise<BuiltImage> {
  const inspect = (image: string): Inspected => JSON.parse(runTool('docker', ['image', 'inspect', image]))[0];
  const hasBase = spawnSync('docker', ['image', 'inspect', baseImage], { stdio: 'ignore' }).status === 0;
  if (!hasBase) await runToolToEnd('docker', ['pull', baseImage]);
  const ofBase = inspect(baseImage);
  // An image that was made on this machine has no digest of a registry. Its id is a digest too.
  const base = ofBase.RepoDigests[0] ?? ofBase.Id;
  const image = `loom-test-${randomBytes(4).toString('hex')}`;
  const remove = async (): Promise<void> => void (await runToolToEnd('docker', ['rmi', '--force', image]));
  const given = Object.entries({ ...buildArguments, NODE_IMAGE: base });
  const options = given.flatMap(([name, value]) => ['--build-arg', `${name}=${value}`]);
  await runToolToEnd('docker', ['build', '--network', 'host', ...options, '--tag', image, repositoryRoot]);
  const { Config: config, Size: size } = inspect(image);
  return { config, bytesAboveBase: size - ofBase.Size, base, runtime: dockerRuntime(image), remove };
}

function dockerRuntime(image: string): Runtime {
  return {
    run: async (name, options) => ['docker', 'run', '--rm', '--name', name, ...runOptions(options, image)],
    exec: (name, command) => ['docker', 'exec', name, ...command],
    signal: (name, signal) => ['docker', 'kill', '--signal', signal, name],
    state: (name) => ['docker', 'inspect', '--format', '{{json .State}}', name],
  };
}

function runOptions({ args = [], command = [], env = {}, mounts = [], writable }: ContainerOptions, image: string) {
  const [program, ...rest] = command;
  return [
    ...['--network', 'host', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges', '--ipc', 'none'],
    ...(writable === true ? [] : ['--read-only']),
    ...Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]),
    ...mounts.flatMap((mount) => [
      '--volume',
      `${mount.source}:${mount.target}${mount.writable === true ? '' : ':ro'}`,
    ]),
    ...(program === undefined ? [] : ['--entrypoint', program]),
    image,
    ...rest,
    ...args,
  ];
}
