import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

/** Returns whether a program is on the path. */
export function isInstalled(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;
}

/**
 * Registers a test that needs a program which need not be installed. Without it, the name of the test says so, and the
 * test shows only that the program is missing.
 */
export function testWithTool(program: string, title: string, check: () => unknown, timeoutMs?: number): void {
  const has = isInstalled(program);
  const reason = has ? `${program} is installed` : `${program} is not installed: only its absence is shown`;
  const showAbsence = (): void => expect(() => runTool(program, ['--version'])).toThrow('ENOENT');
  test(`${title} (${reason})`, async () => void (has ? await check() : showAbsence()), timeoutMs);
}

/** Runs a program to its end. Returns its output; throws an error with it if the exit code is not 0. */
export function runTool(program: string, args: string[], input = ''): string {
  const { error, status, stdout, stderr } = spawnSync(program, args, { encoding: 'utf8', input });
  if (error !== undefined) throw error;
  const output = stdout + stderr;
  if (status !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${status}: ${output}`);
  return output;
}

export interface ToolResult {
  code: number;
  stdout: string;
  stderr: string;
}

/** Runs a command line to its end, while this process goes on. The code is -1 if a signal ended it. */
export function runToEnd([program = '', ...args]: readonly string[]): Promise<ToolResult> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { maxBuffer: Number.POSITIVE_INFINITY }, (error, stdout, stderr) => {
      if (typeof error?.code === 'string') reject(error);
      else resolve({ code: error === null ? 0 : (error.code ?? -1), stdout, stderr });
    });
  });
}

/** Runs a program as `runTool` does, while this process goes on: for a program that takes minutes. */
export async function runToolToEnd(program: string, args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runToEnd([program, ...args]);
  if (code !== 0) throw new Error(`${program} ${args.join(' ')} ended with ${code}: ${stdout + stderr}`);
  return stdout;
}

/** Writes files to a new directory, which the test removes at its end. Returns its path. */
export function writeFiles(files: Record<string, string>): string {
  const directory = mkdtempSync(join(tmpdir(), 'loom-deploy-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  return directory;
}
