import { spawn } from 'node:child_process';
import { open, readFile, writeFile } from 'node:fs/promises';
import { TOKEN } from '../server.ts';

/** Reads and resets the peak of a process's resident memory. Linux only. */
export interface MemoryMeter {
  /** Returns how much the peak exceeds the memory at the start, in MiB. */
  growthMiB(): Promise<number>;
}

/** Starts to measure the memory of a process. */
export async function meterMemory(pid: number): Promise<MemoryMeter> {
  // 5 sets the peak to the current size, see proc_pid_clear_refs(5).
  await writeFile(`/proc/${pid}/clear_refs`, '5');
  const start = await readMemoryMiB(pid, 'VmRSS');
  return { growthMiB: async () => (await readMemoryMiB(pid, 'VmHWM')) - start };
}

/** Rejects if the process has ended. */
export async function readMemoryMiB(pid: number, name: 'VmRSS' | 'VmHWM'): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  const kibibytes = new RegExp(`^${name}:\\s+(\\d+) kB$`, 'm').exec(status)?.[1];
  if (kibibytes === undefined) throw new Error(`Process ${pid} has ended`);
  return Number(kibibytes) / 1024;
}

/**
 * Takes a backup into a file. It uses curl, as the restore below does, because this process measures latencies at the
 * same time.
 */
export async function takeBackup(nodeUrl: string, path: string): Promise<void> {
  await run(`curl -sS --fail-with-body -o "$1" -H "x-loom-admin-token: ${TOKEN}" "$2"`, [
    path,
    `${nodeUrl}/v1/admin/persistence/backup`,
  ]);
  const end = await lastBytes(path, 2);
  if (!end.includes('}')) throw new Error(`The backup in ${path} is incomplete`);
}

/** Restores a backup file, or plans to, and returns the report. */
export async function sendRestore(
  nodeUrl: string,
  path: string,
  { dryRun = false } = {},
): Promise<Record<string, unknown>> {
  const script = `{ printf '{"confirm":"restore","dry_run":${dryRun},"backup":'; cat "$1"; printf '}'; } |
    curl -sS --fail-with-body -X POST -T - -H 'content-type: application/json' -H "x-loom-admin-token: ${TOKEN}" "$2"`;
  return JSON.parse(await run(script, [path, `${nodeUrl}/v1/admin/persistence/restore`])) as Record<string, unknown>;
}

/** Runs a command and returns its standard output. Calls `whileRunning` from time to time with the process id. */
export function run(script: string, args: string[], whileRunning?: (pid: number) => Promise<void>): Promise<string> {
  const child = spawn('sh', ['-c', script, 'sh', ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => (output.stdout += chunk));
  child.stderr.on('data', (chunk) => (output.stderr += chunk));
  const timer =
    whileRunning === undefined
      ? undefined
      : setInterval(() => void whileRunning(child.pid ?? 0).catch(() => undefined), SAMPLE_MS);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      clearInterval(timer);
      if (code === 0) resolve(output.stdout);
      else reject(new Error(`A command ended with code ${code}:\n${output.stdout}${output.stderr}`));
    });
  });
}

const SAMPLE_MS = 20;

async function lastBytes(path: string, count: number): Promise<string> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    const { buffer, bytesRead } = await file.read(Buffer.alloc(count), 0, count, Math.max(0, size - count));
    return buffer.toString('utf8', 0, bytesRead);
  } finally {
    await file.close();
  }
}
