import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, realpath, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { runProgram } from '../../../src/dev/processes.ts';

export interface BuiltProgram {
  /** Path of its `main.js`. */
  entry: string;
  remove(): Promise<void>;
}

const root = fileURLToPath(new URL('../../..', import.meta.url));

/**
 * Builds the program into a new folder, as `npm run build` does. The build takes a second once per run. Tests start
 * the program hundreds of times, and it starts in half the time of its sources.
 */
export async function buildProgram(): Promise<BuiltProgram> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-test-built-'));
  const remove = (): Promise<void> => rm(directory, { recursive: true, force: true });
  const compiler = await realpath(join(root, 'node_modules/.bin/tsc'));
  const dist = join(directory, 'dist');
  // Another check finds type errors: finding them takes most of a build, and tests also run in the middle of a change.
  const parameters = ['-p', join(root, 'tsconfig.json'), '--noCheck', '--noEmit', 'false', '--outDir', dist];
  const { output } = await runProgram(process.execPath, [compiler, ...parameters]);
  if (!existsSync(join(dist, 'main.js'))) {
    await remove();
    throw new Error(`The program cannot be built: ${output}`);
  }
  // The program expects these next to `dist`.
  await copyFile(join(root, 'package.json'), join(directory, 'package.json'));
  for (const folder of ['node_modules', 'migrations']) await symlink(join(root, folder), join(directory, folder));
  return { entry: join(dist, 'main.js'), remove };
}

/**
 * Joins a built program and its packages into a few files next to it, and returns the path of their `main.js`. Loading
 * 600 modules takes most of the CPU time of a short command, and this program starts in less than half of it.
 */
export async function bundleProgram({ entry }: BuiltProgram): Promise<string> {
  const outdir = join(dirname(entry), '../bundle');
  await build({
    entryPoints: [entry],
    outdir,
    bundle: true,
    // Each command still loads its own modules only.
    splitting: true,
    platform: 'node',
    format: 'esm',
    // Packages in CommonJS expect this function.
    banner: { js: `import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);` },
    plugins: [keepPlaces(dirname(entry))],
    logLevel: 'error',
  });
  return join(outdir, 'main.js');
}

/** Builds the file that records the answers of a node in a process of its own, and returns its path. */
export async function buildRecorder({ entry }: BuiltProgram): Promise<string> {
  const outfile = join(dirname(entry), '../record-file.mjs');
  const entryPoint = fileURLToPath(new URL('../answers/record-file.ts', import.meta.url));
  await build({ entryPoints: [entryPoint], outfile, bundle: true, platform: 'node', format: 'esm', logLevel: 'error' });
  return outfile;
}

/** Lets each module in `directory` find its files as if it were still at its place. */
function keepPlaces(directory: string): Plugin {
  return {
    name: 'keep-places',
    setup: ({ onLoad }) => {
      onLoad({ filter: /\.js$/ }, async ({ path }) => {
        if (!path.startsWith(directory)) return undefined;
        const contents = await readFile(path, 'utf8');
        return { contents: contents.replaceAll('import.meta.url', JSON.stringify(pathToFileURL(path).href)) };
      });
    },
  };
}
