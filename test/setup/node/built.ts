import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { copyFile, mkdtemp, readFile, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { build, type Plugin } from 'esbuild';
import { plainEnvironment, runProgram } from '../../../src/dev/processes.ts';

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
 * Joins a built program and its packages into one file, and returns the path of the `main.js` that starts it. Loading
 * 600 modules and compiling them takes most of the CPU time of a short command. This program does neither: V8 reads its
 * compiled code from another file.
 */
export async function bundleProgram({ entry }: BuiltProgram): Promise<string> {
  const directory = join(dirname(entry), '../bundle');
  await build({
    entryPoints: [entry],
    outfile: join(directory, 'program.cjs'),
    bundle: true,
    platform: 'node',
    format: 'cjs',
    banner: { js: '(function (require, module, exports) {' },
    footer: { js: '})' },
    plugins: [startWithoutAwait(entry), keepPlaces(dirname(entry))],
    logLevel: 'error',
  });
  await writeFile(join(directory, 'main.js'), startScript(''));
  await writeFile(join(directory, 'warm.js'), startScript(keepCode));
  await warmUp(join(directory, 'warm.js'));
  return join(directory, 'main.js');
}

/** Returns a script that runs the joined program. The text of the program is ASCII. */
function startScript(before: string): string {
  return `import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import v8 from 'node:v8';
import { constants, Script } from 'node:vm';
const filename = fileURLToPath(new URL('program.cjs', import.meta.url));
const code = filename + '.code';
const script = new Script(readFileSync(filename, 'latin1'), {
  filename,
  cachedData: existsSync(code) ? readFileSync(code) : undefined,
  importModuleDynamically: constants.USE_MAIN_CONTEXT_DEFAULT_LOADER,
});
${before}const module = { exports: {} };
script.runInThisContext()(createRequire(import.meta.url), module, module.exports);
`;
}

/** Lets V8 write the compiled code at the end. V8 refuses code that it compiled with other flags than at its start. */
const keepCode = `v8.setFlagsFromString = () => undefined;
process.once('exit', () => writeFileSync(code, script.createCachedData()));
`;

/** Starts a node without a database and ends it when it listens: V8 compiles a function when it first runs. */
async function warmUp(script: string): Promise<void> {
  const database = { LOOM_PG_URL: 'postgres://nobody@127.0.0.1:1/none', LOOM_ADMIN_TOKEN: 'a-token-to-warm-up' };
  const env = { ...plainEnvironment, ...database, LOOM_PORT: '0' };
  const child = spawn(process.execPath, [script, 'serve'], { cwd: '/', env, stdio: ['ignore', 'pipe', 'pipe'] });
  let output = '';
  const read = (chunk: Buffer): void => {
    output += chunk.toString('utf8');
    if (output.includes('"msg":"listening"')) child.kill('SIGTERM');
  };
  child.stdout.on('data', read);
  child.stderr.on('data', read);
  const [code] = await once(child, 'close');
  if (code !== 0) throw new Error(`The joined program ended with exit code ${code}: ${output}`);
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

/** Lets the main module start the program without `await`, which a script in CommonJS cannot have. */
function startWithoutAwait(entry: string): Plugin {
  return {
    name: 'start-without-await',
    setup: ({ onLoad }) => {
      onLoad({ filter: /[\\/]main\.js$/ }, async ({ path }) => {
        if (path !== entry) return undefined;
        return { contents: (await readFile(path, 'utf8')).replace(/^await (?=runProgram\()/m, 'void ') };
      });
    },
  };
}
