import { createHash, randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { chmod, chown, mkdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { findPostgresBinaries, makeOpenDirectory, type PostgresBinaries } from './postgres-binaries.ts';
import {
  findServerUser,
  isRoot,
  isServerOf,
  type ProcessUser,
  runProgram,
  sendSignal,
  startOfProcess,
  waitForEnd,
} from './processes.ts';

export interface EmbeddedPostgresOptions {
  /** The directory for the cluster and nothing else. It is created if it is missing. */
  dataDirectory: string;
  /** `true`: the data stays for the next start. `false`: `stop` or the end of this process removes the directory. */
  persistent: boolean;
  /** Server settings by name, as in `postgresql.conf`. */
  settings?: Record<string, string>;
  /** Texts by file name, written into PGDATA before each start: certificates, keys, `pg_hba.conf`. */
  files?: Record<string, string>;
  /** Undefined or 0 takes a free port. A port in use is an error. */
  port?: number;
}

/** A directory that this process has claimed until `close`, and the user that runs PostgreSQL in it. */
interface ClusterHome {
  baseDirectory: string;
  user: ProcessUser | undefined;
  close(options: { remove: boolean }): Promise<void>;
}

/** A cluster on disk without a server. `directory` is PGDATA. */
export type Cluster = Awaited<ReturnType<typeof openCluster>>;

/** The place for programs and data if root runs LOOM from a directory that the server's user cannot enter. */
const sharedDirectory = '/var/lib/loom-dev';

/** Claims the directory, and creates it if it is missing. Rejects if another process has claimed it. */
export async function claimClusterHome(dataDirectory: string): Promise<ClusterHome> {
  if (process.platform === 'win32') throw new Error('The embedded PostgreSQL runs on Linux and macOS only.');
  const { baseDirectory, user } = await makeBaseDirectory(resolve(dataDirectory));
  const release = await claim(baseDirectory);
  const close: ClusterHome['close'] = async ({ remove }) => {
    if (remove) await rm(baseDirectory, { recursive: true, force: true, maxRetries: 5 });
    if (remove) await rmdir(sharedDirectory).catch(() => undefined);
    await release();
  };
  return { baseDirectory, user, close };
}

/** Prepares the cluster for a server. Creates it with a random password if it is missing. */
export async function openCluster(home: ClusterHome, options: EmbeddedPostgresOptions) {
  const { baseDirectory, user } = home;
  const directory = join(baseDirectory, 'cluster');
  const binaries = await findPostgresBinaries(isRoot() ? sharedDirectory : baseDirectory, user);
  if (existsSync(directory)) {
    await requireSameMajorVersion(directory, binaries);
    await endOrphan(directory);
  } else {
    await makeCluster(directory, binaries, user, options);
  }
  for (const [name, text] of Object.entries(options.files ?? {})) await writeOwned(join(directory, name), text, user);
  return { ...home, binaries, directory, password: await readFile(join(baseDirectory, 'password'), 'utf8') };
}

/** Creates the directory, or one in `sharedDirectory` if the server's user cannot enter it. */
async function makeBaseDirectory(wantedDirectory: string): Promise<Pick<ClusterHome, 'baseDirectory' | 'user'>> {
  const serverUser = await findServerUser();
  const key = createHash('sha256').update(wantedDirectory).digest('hex').slice(0, 16);
  const candidates = serverUser === undefined ? [wantedDirectory] : [wantedDirectory, join(sharedDirectory, key)];
  for (const baseDirectory of candidates) {
    if (baseDirectory !== wantedDirectory) await makeOpenDirectory(sharedDirectory);
    await mkdir(baseDirectory, { recursive: true });
    const owner = await stat(baseDirectory);
    // An existing cluster keeps its owner: root and the owner of a checkout may use it in turns.
    const user = serverUser === undefined || owner.uid === 0 ? serverUser : { uid: owner.uid, gid: owner.gid };
    if (user === undefined) return { baseDirectory, user };
    await chown(baseDirectory, user.uid, user.gid);
    await chmod(baseDirectory, 0o700);
    const entered = await runProgram('/bin/sh', ['-c', 'cd "$1"', 'sh', baseDirectory], user);
    if (entered.code === 0) return { baseDirectory, user };
    await rmdir(baseDirectory).catch(() => undefined);
  }
  throw new Error(`The user that runs PostgreSQL can reach neither ${wantedDirectory} nor ${sharedDirectory}.`);
}

/**
 * Writes this process's pid and start time into the directory. Two servers would destroy its data, and a second start
 * must not end the first server as an orphan. A mark is stale if its process has ended or its pid was reused.
 */
async function claim(baseDirectory: string): Promise<() => Promise<void>> {
  const path = join(baseDirectory, 'owner');
  const mark = `${process.pid} ${await startOfProcess(process.pid)}`;
  for (let attempt = 1; ; attempt += 1) {
    try {
      await writeFile(path, mark, { flag: 'wx' });
      return () => rm(path, { force: true });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST' || attempt === 3) throw error;
    }
    const ownerMark = await readFile(path, 'utf8').catch(() => '');
    const ownerPid = Number.parseInt(ownerMark, 10);
    if (ownerPid > 0 && ownerMark === `${ownerPid} ${await startOfProcess(ownerPid)}`) {
      throw new Error(`The data in ${baseDirectory} is in use by process ${ownerPid}. Stop that process first.`);
    }
    await rm(path, { force: true });
  }
}

/** Ends a server whose starter and guard were killed, so that another server can use its data. */
async function endOrphan(directory: string): Promise<void> {
  const path = join(directory, 'postmaster.pid');
  const pid = Number.parseInt(await readFile(path, 'utf8').catch(() => ''), 10);
  if (!(pid > 0)) return;
  if (await isServerOf(pid, directory)) {
    sendSignal(pid, 'SIGCONT');
    sendSignal(pid, 'SIGINT');
    if (!(await waitForEnd(pid, 15_000))) sendSignal(pid, 'SIGQUIT');
    if (!(await waitForEnd(pid, 10_000))) throw new Error(`A server of an earlier run (process ${pid}) did not end.`);
  }
  // PostgreSQL does not start if another process of the same user has this pid.
  await rm(path, { force: true });
}

async function requireSameMajorVersion(directory: string, binaries: PostgresBinaries): Promise<void> {
  const dataVersion = (await readFile(join(directory, 'PG_VERSION'), 'utf8')).trim();
  const { output } = await runProgram(binaries.postgres, ['--version']);
  const serverVersion = /(\d+)\./.exec(output)?.[1];
  if (serverVersion === dataVersion) return;
  throw new Error(
    `The data in ${directory} is from PostgreSQL ${dataVersion}, but the embedded PostgreSQL is ${serverVersion}. Remove the directory to start over.`,
  );
}

/** Creates a cluster under another name and renames it, so that an interrupted start leaves no partial cluster. */
async function makeCluster(
  directory: string,
  binaries: PostgresBinaries,
  user: ProcessUser | undefined,
  options: EmbeddedPostgresOptions,
): Promise<void> {
  const partDirectory = `${directory}.part`;
  const passwordPath = join(directory, '..', 'password');
  await rm(partDirectory, { recursive: true, force: true });
  await writeOwned(passwordPath, randomBytes(18).toString('base64url'), user);
  const access = ['--username=postgres', '--auth=scram-sha-256', `--pwfile=${passwordPath}`, '--no-instructions'];
  // PostgreSQL's built-in C.UTF-8 sorts and maps case the same way on every machine, whatever its locales.
  const locale = ['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8'];
  const sync = options.settings?.fsync === 'off' ? ['--no-sync'] : [];
  const parameters = [`--pgdata=${partDirectory}`, ...access, ...locale, ...sync];
  const { code, output } = await runProgram(binaries.initdb, parameters, user);
  if (code !== 0) throw new Error(`The data directory could not be created:\n${output.trim()}`);
  await rename(partDirectory, directory);
}

async function writeOwned(path: string, text: string, user: ProcessUser | undefined): Promise<void> {
  await rm(path, { force: true });
  await writeFile(path, text, { mode: 0o600, flag: 'wx' });
  if (user !== undefined) await chown(path, user.uid, user.gid);
}
