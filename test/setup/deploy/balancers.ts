import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import { portOrAnother, waitUntil } from '../node/program.ts';
import { readDeployFile, replaceEach } from './files.ts';
import { runTool, writeFiles } from './tools.ts';

export interface Balancer {
  name: string;
  url: string;
  /** Resolves when the balancer sends to both nodes again, after both are ready. */
  seesBoth(): Promise<void>;
  /** Starts another process with the same file, which takes over while the old one finishes its requests. */
  reload?(): void;
}

/** Starts each balancer with its file of `docs/deploy`, in front of two nodes on these ports. */
export const balancers = { nginx: startNginx, haproxy: startHaproxy };

export async function freePorts(count: number): Promise<number[]> {
  const ports = new Set<number>();
  while (ports.size < count) ports.add(await portOrAnother(0));
  return [...ports];
}

async function startHaproxy(nodes: number[]): Promise<Balancer> {
  const [port = 0, statistics = 0] = await freePorts(2);
  const text = replaceEach(readDeployFile('haproxy.cfg'), { ':8080': `:${port}`, ':8404': `:${statistics}` });
  const path = join(writeFiles({ 'haproxy.cfg': withNodes(text, nodes) }), 'haproxy.cfg');
  runTool('haproxy', ['-c', '-f', path]);
  // The master process starts a new worker after SIGUSR2.
  const master = await run('haproxy', ['-W', '-db', '-f', path]);
  const seesBoth = async (): Promise<void> => {
    await waitUntil(
      () => readText(`http://127.0.0.1:${statistics}/;csv`),
      (csv) => ['a', 'b'].every((node) => new RegExp(`^loom,node-${node},(?:[^,]*,){15}UP,`, 'm').test(csv)),
    );
  };
  const reload = (): void => void master.kill('SIGUSR2');
  return { name: 'haproxy', url: await listening(port), seesBoth, reload };
}

async function startNginx(nodes: number[]): Promise<Balancer> {
  const [port = 0] = await freePorts(1);
  const ownFiles = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((of) => `${of}_temp_path ${of};`).join(' ');
  const text = replaceEach(readDeployFile('nginx.conf'), {
    ':8081': `:${port}`,
    'http {': `http {\n  access_log off; ${ownFiles}`,
  });
  // Started by root, nginx would write large bodies as another user, who cannot enter the directory.
  const user = process.getuid?.() === 0 ? 'user root root;' : '';
  const directory = writeFiles({ 'nginx.conf': `${user} pid nginx.pid;\n${withNodes(text, nodes)}` });
  const common = ['-p', directory, '-c', join(directory, 'nginx.conf'), '-e', join(directory, 'error.log')];
  runTool('nginx', ['-t', ...common]);
  await run('nginx', [...common, '-g', 'daemon off;']);
  // nginx has no checks. It tries both nodes for each request.
  return { name: 'nginx', url: await listening(port), seesBoth: () => Promise.resolve() };
}

function withNodes(text: string, [first, second]: number[]): string {
  return replaceEach(text, { ':8787': `:${first}`, ':8788': `:${second}` });
}

/** Starts a balancer, and ends it after the test. */
async function run(command: string, args: string[]): Promise<ChildProcess> {
  const child = spawn(command, args, { stdio: 'ignore' });
  onTestFinished(async () => {
    if (child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGTERM');
    await ended;
  });
  await once(child, 'spawn');
  return child;
}

function readText(url: string): Promise<string> {
  return fetch(url)
    .then((answer) => answer.text())
    .catch(() => '');
}

/** Resolves with the address when something answers there. */
async function listening(port: number): Promise<string> {
  const url = `http://127.0.0.1:${port}`;
  await waitUntil(
    () => readText(`${url}/ready`),
    (answer) => answer !== '',
  );
  return url;
}
