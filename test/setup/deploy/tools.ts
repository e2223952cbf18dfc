import { spawnSync } from 'node:child_process';
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

/** Writes files to a new directory, which the test removes at its end. Returns its path. */
export function writeFiles(files: Record<string, string>): string {
  const directory = mkdtempSync(join(tmpdir(), 'loom-deploy-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  return directory;
}
