// test/setup/object-store/services/ starts real S3 services whose programs are installed: Ceph, OpenStack Swift, moto.
// It may import `node`, `deploy` and the S3 client.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3';
import { runToolToEnd } from '../../deploy/tools.ts';
import { portOrAnother } from '../../node/program.ts';

/** What the start of a service can use. All of it ends with the service. */
export interface Ground {
  /** Folder for configuration and data. */
  directory: string;
  /** Port on which the service must listen. */
  port: number;
  freePort(): Promise<number>;
  /** Starts a program that stays in the foreground. */
  launch(program: string, args: string[], env?: Record<string, string>): void;
  run(program: string, args: string[]): Promise<string>;
  untilListening(port: number): Promise<void>;
}

export interface LocalService {
  name: string;
  /** Programs that it needs, and the packages that have them. */
  programs: string[];
  packages: string;
  /** Whether it refuses wrong keys. */
  checksKeys: boolean;
  /** Whether its list of unfinished uploads has their times. */
  datesUploads: boolean;
  hasPolicies: boolean;
  hasLocks: boolean;
  start(ground: Ground): Promise<{ accessKeyId: string; secretAccessKey: string }>;
}

export interface RunningService {
  endpoint: string;
  credentials: { accessKeyId: string; secretAccessKey: string };
  /** Value for `LOOM_TEST_S3_URL`. */
  url: string;
  stop(): Promise<void>;
}

const BUCKET = 'loom-test';
/** Takes seconds on an idle machine, and minutes on a busy one. */
const START_MS = 300_000;
const STOP_MS = 10_000;

/** Starts a service on a free port, and creates an empty bucket. */
export async function startLocalService(service: LocalService): Promise<RunningService> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-test-s3-'));
  const children: { program: string; child: ChildProcess; said: () => string }[] = [];
  const killAll = (): void => {
    for (const { child } of children) child.kill('SIGKILL');
  };
  process.once('exit', killAll);
  const stop = async (): Promise<void> => {
    for (const { child } of children.toReversed()) await end(child);
    process.off('exit', killAll);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    const port = await portOrAnother(0);
    const credentials = await service.start({
      directory,
      port,
      freePort: () => portOrAnother(0),
      launch: (program, args, env = {}) => {
        const child = spawn(program, args, {
          cwd: directory,
          env: { ...process.env, ...env },
          stdio: ['ignore', 'pipe', 'pipe'],
        });
        children.push({ program, child, said: lastWords(child) });
      },
      run: runToolToEnd,
      untilListening,
    });
    const endpoint = `http://127.0.0.1:${port}`;
    const client = new S3Client({ endpoint, region: 'us-east-1', forcePathStyle: true, credentials });
    await untilCreated(client, () => children.find(({ child }) => child.exitCode !== null));
    client.destroy();
    const [id, secret] = [credentials.accessKeyId, credentials.secretAccessKey].map(encodeURIComponent);
    return { endpoint, credentials, url: `http://${id}:${secret}@127.0.0.1:${port}/${BUCKET}`, stop };
  } catch (error) {
    const logs = children.map(({ program, said }) => `${program}: ${said()}`).join('\n');
    await stop();
    throw new Error(`${service.name} did not start: ${String(error)}\n${logs}`);
  }
}

/** Creates the bucket as soon as the service answers. */
async function untilCreated(client: S3Client, ended: () => { program: string } | undefined): Promise<void> {
  const deadline = performance.now() + START_MS;
  for (;;) {
    try {
      await client.send(new CreateBucketCommand({ Bucket: BUCKET }));
      return;
    } catch (error) {
      const dead = ended();
      if (dead !== undefined) throw new Error(`${dead.program} has ended`);
      if (performance.now() > deadline) throw error;
    }
    await sleep(200);
  }
}

async function untilListening(port: number): Promise<void> {
  const deadline = performance.now() + START_MS;
  while (!(await accepts(port))) {
    if (performance.now() > deadline) throw new Error(`no server listens on port ${port}`);
    await sleep(100);
  }
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

function lastWords(child: ChildProcess): () => string {
  let text = '';
  for (const stream of [child.stdout, child.stderr])
    stream?.on('data', (chunk: Buffer) => {
      text = (text + chunk.toString()).slice(-2_000);
    });
  return () => text;
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const ended = once(child, 'exit');
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS);
  await ended;
  clearTimeout(timer);
}
