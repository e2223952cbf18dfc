import { spawnSync } from 'node:child_process';

/** Whether the program `age` is installed. Prints the reason once if tests have to do without it. */
export const hasAge: boolean = findAge();

function findAge(): boolean {
  const { status } = spawnSync('age', ['--version']);
  if (status === 0) return true;
  console.warn('The tests with the program `age` do not run: it is not installed.');
  return false;
}

/** Runs `age` with these arguments and input. Returns its output, and throws what it says if it fails. */
export function runAge(args: string[], input: Uint8Array): Buffer {
  const { status, stdout, stderr } = spawnSync('age', args, { input, maxBuffer: 1e9 });
  if (status !== 0) throw new Error(`age ${args.join(' ')}: ${stderr.toString()}`);
  return stdout;
}
