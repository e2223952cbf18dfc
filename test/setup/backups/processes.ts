import { type ChildProcess, spawn } from 'node:child_process';
import { chmod, mkdtemp, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';
import { plainEnvironment } from '../../../src/dev/processes.ts';
import type { StoreKind } from '../object-store/object-store.ts';
import { nodeUrl } from '../roles/node-url.ts';
import type { BackupSite } from './backup-node.ts';
import type { RunProcessSettings } from './process-settings.ts';

/** A scheduler in a process of its own. */
export interface RunProcess {
  output(): string;
  isRunning(): boolean;
  /** Sends SIGKILL, and resolves when the process has ended. */
  kill(): Promise<void>;
}

/** Starts schedulers on a site, and owns their clock. */
export interface RunProcesses {
  /** Starts a scheduler, or a process that only carries out an order, by default as the user of the test. */
  start(only?: Pick<RunProcessSettings, 'order' | 'stopAt'> & { uid?: number }): RunProcess;
  /** Sets the clock of all schedulers. */
  setClock(timeMs: number): Promise<void>;
  /** Ends all schedulers. */
  close(): Promise<void>;
}

type Timing = Pick<RunProcessSettings, 'leaseMs' | 'keep'>;

export async function openRunProcesses({ database, objects }: BackupSite, timing: Timing): Promise<RunProcesses> {
  const folder = await mkdtemp(join(tmpdir(), 'loom-test-runs-'));
  // A process of another user reads it, too.
  await chmod(folder, 0o755);
  const entry = join(folder, 'run-process.mjs');
  await bundle(entry, objects.kind);
  const clockFile = join(folder, 'clock');
  const settings: RunProcessSettings = {
    url: nodeUrl(database.url),
    stateKey: 'default',
    store: objects.options,
    clockFile,
    ...timing,
  };
  const all: RunProcess[] = [];
  return {
    start: ({ uid, ...only } = {}) => {
      const started = launch(entry, { ...settings, ...only }, uid);
      all.push(started);
      return started;
    },
    setClock: async (timeMs) => {
      // Renamed, so that no scheduler reads half of it.
      await writeFile(`${clockFile}.new`, String(timeMs));
      await rename(`${clockFile}.new`, clockFile);
    },
    close: async () => {
      await Promise.all(all.map((one) => one.kill()));
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** Joins the scheduler and its packages into one file. It starts in a quarter of the time of its sources. */
async function bundle(outfile: string, kind: StoreKind): Promise<void> {
  await build({
    entryPoints: [fileURLToPath(new URL('./run-process.ts', import.meta.url))],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    external: kind === 's3' ? ['pg-native'] : ['@aws-sdk/*', 'pg-native'],
    // Packages in CommonJS expect this function.
    banner: { js: `import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);` },
    logLevel: 'error',
  });
}

function launch(entry: string, settings: RunProcessSettings, uid: number | undefined): RunProcess {
  const child: ChildProcess = spawn(process.execPath, [entry, JSON.stringify(settings)], {
    cwd: tmpdir(),
    ...(uid !== undefined && { uid }),
    env: plainEnvironment,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const kill = (): void => void child.kill('SIGKILL');
  process.once('exit', kill);
  const chunks: Buffer[] = [];
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => void chunks.push(chunk));
  const ended = new Promise<void>((resolve) => child.once('close', () => resolve())).finally(() =>
    process.off('exit', kill),
  );
  return {
    output: () => Buffer.concat(chunks).toString(),
    isRunning: () => child.exitCode === null && child.signalCode === null,
    kill: async () => {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
