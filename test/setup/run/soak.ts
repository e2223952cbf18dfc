import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/**
 * `npm run soak`: runs the tests at full depth. All arguments go to Vitest, except these of the fault harness:
 *
 * - `faults` runs only `test/faults`;
 * - `--runs N` runs N rounds;
 * - `--seed S` runs the round of this seed, or N rounds from it on.
 */
function readArguments(given: string[]): { args: string[]; env: Record<string, string> } {
  const args: string[] = [];
  const env: Record<string, string> = {};
  const rest = [...given];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const [, option, ownValue] = /^--(runs|seed)(?:=(.*))?$/.exec(word) ?? [];
    if (option === undefined) args.push(word === 'faults' ? 'test/faults/' : word);
    else env[option === 'runs' ? 'LOOM_TEST_RUNS' : 'LOOM_TEST_SEED'] = ownValue ?? rest.shift() ?? '';
  }
  if (env.LOOM_TEST_SEED !== undefined) env.LOOM_TEST_RUNS ??= '1';
  return { args, env };
}

const { args, env } = readArguments(process.argv.slice(2));
const vitest = fileURLToPath(new URL('../../../node_modules/vitest/vitest.mjs', import.meta.url));
const child = spawn(process.execPath, [vitest, 'run', '--config', 'test/vitest.config.ts', '--mode', 'soak', ...args], {
  stdio: 'inherit',
  env: { ...process.env, ...env },
});
child.once('exit', (code) => {
  process.exitCode = code ?? 1;
});
// Ctrl-C reaches Vitest as well, which then stops the servers. This process waits for it.
process.on('SIGINT', () => undefined);
process.on('SIGTERM', () => child.kill('SIGTERM'));
