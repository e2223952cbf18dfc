import { expect, test } from 'vitest';
import { runProgram } from '../../../src/dev/processes.ts';

const helpers = new URL('../node/program.ts', import.meta.url).href;

test('benchmarks, which are no test run, can start programs with the helpers of the tests', async () => {
  const script = `
    const { startProgram } = await import('${helpers}');
    await startProgram({ entry: '/missing.mjs', env: {} });`;
  const loader = import.meta.resolve('tsx');
  const { output } = await runProgram(process.execPath, ['--import', loader, '--input-type=module', '-e', script]);
  expect(output).toContain('The program ended before it listened');
});
