import { copyFile, mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import type { BuiltProgram } from '../node/built.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** The schema version of the previous release, and the number of its migrations. */
export const PREVIOUS_RELEASE = 4;

/**
 * Installs the program of the previous release into a new folder, with its own migrations and the packages of this
 * version. `startProgram` starts it.
 */
export async function installEarlierProgram(): Promise<BuiltProgram> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-earlier-program-'));
  // The program looks for its files from the place of a module three folders deep.
  const place = join(directory, 'dist/persistence/schema');
  await Promise.all([mkdir(place, { recursive: true }), mkdir(join(directory, 'migrations'))]);
  await symlink(join(root, 'node_modules'), join(directory, 'node_modules'));
  const names = (await readdir(join(root, 'migrations'))).sort().slice(0, PREVIOUS_RELEASE);
  for (const name of names) await copyFile(join(root, 'migrations', name), join(directory, 'migrations', name));
  const packed = await readFile(join(root, `test/fixtures/nodes/program-${PREVIOUS_RELEASE}.mjs.gz`));
  const entry = join(place, 'main.mjs');
  await writeFile(entry, gunzipSync(packed));
  await writeFile(join(place, '../package.json'), '{"name":"loom","version":"0.1.0","type":"module"}');
  return { entry, remove: () => rm(directory, { recursive: true, force: true }) };
}
