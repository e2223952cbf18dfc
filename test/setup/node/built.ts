import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { runProgram } from '../../../src/dev/processes.ts';

export interface BuiltProgram {
  /** Its `main.js`. */
  entry: string;
  remove(): Promise<void>;
}

const root = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * The program as `npm run build` makes it, in a folder of its own: built once a run, in two seconds, it then starts in
 * half the time that the sources take, and tests start it hundreds of times.
 */
export async function buildProgram(): Promise<BuiltProgram> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-test-built-'));
  const remove = (): Promise<void> => rm(directory, { recursive: true, force: true });
  const compiler = await realpath(join(root, 'node_modules/.bin/tsc'));
  const dist = join(directory, 'dist');
  const parameters = ['-p', join(root, 'tsconfig.json'), '--noEmit', 'false', '--outDir', dist];
  const { output } = await runProgram(process.execPath, [compiler, ...parameters]);
  // Types are another check's business: a test can be run in the middle of a change.
  if (!existsSync(join(dist, 'main.js'))) {
    await remove();
    throw new Error(`The program cannot be built: ${output}`);
  }
  // What stands beside `dist` in an installation.
  await copyFile(join(root, 'package.json'), join(directory, 'package.json'));
  for (const folder of ['node_modules', 'migrations']) await symlink(join(root, folder), join(directory, folder));
  return { entry: join(dist, 'main.js'), remove };
}
