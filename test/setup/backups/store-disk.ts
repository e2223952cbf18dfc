import { spawnSync } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A disk that is mounted on the folder of a store, and can be unmounted and mounted again with its content. */
export interface StoreDisk {
  mount(): void;
  /** Unmounts the disk: the empty folder below comes to light. With `lazy`, also while files are open. */
  unmount(options?: { lazy: boolean }): void;
  setReadOnly(isReadOnly: boolean): void;
  /** Takes all the room that is left, down to the last page. */
  fill(): void;
  /** Takes all inodes that are left, so that no file can be created. */
  useUpInodes(): Promise<void>;
  /** Gives back what `fill` and `useUpInodes` took. */
  free(): Promise<void>;
  /** Lets every write wait, as the server of a network file system does that does not answer. Only for `ext4`. */
  freeze(isFrozen: boolean): void;
  remove(): Promise<void>;
}

/** Returns why this user cannot mount disks; undefined if it can. */
export async function whyNoMounts(): Promise<string | undefined> {
  const directory = await mkdtemp(join(tmpdir(), 'loom-test-mount-'));
  const { status, stderr, error } = spawnSync('mount', ['-t', 'tmpfs', 'tmpfs', directory], { encoding: 'utf8' });
  if (status === 0) spawnSync('umount', [directory]);
  await rm(directory, { recursive: true });
  return status === 0 ? undefined : `no disk can be mounted: ${error?.message ?? stderr.trim()}`;
}

/**
 * Mounts a disk on this folder. `tmpfs` is a disk in memory. `ext4` is a file system in a sparse file on such a disk,
 * as with thin provisioning: it accepts writes when the disk below is full, and fails when they are synced.
 */
export async function mountStoreDisk(directory: string, kind: 'tmpfs' | 'ext4' = 'tmpfs'): Promise<StoreDisk> {
  const place = await mkdtemp(join(tmpdir(), 'loom-test-disk-'));
  run('mount', ['-t', 'tmpfs', '-o', 'size=24m,nr_inodes=200', 'tmpfs', place]);
  const source = join(place, 'content');
  if (kind === 'tmpfs') await mkdir(source);
  else {
    run('truncate', ['-s', '64m', source]);
    run('mkfs.ext4', ['-q', '-O', '^has_journal', source]);
  }
  let isMounted = false;
  const mount = (): void => {
    run('mount', [...(kind === 'tmpfs' ? ['--bind'] : ['-o', 'loop']), source, directory]);
    isMounted = true;
  };
  const unmount = ({ lazy } = { lazy: false }): void => {
    run('umount', [...(lazy ? ['--lazy'] : []), directory]);
    isMounted = false;
  };
  const removeMounts = (): void => {
    process.off('exit', removeMounts);
    if (isMounted) spawnSync('umount', ['--lazy', directory]);
    spawnSync('umount', ['--lazy', place]);
  };
  process.once('exit', removeMounts);
  const taken = join(place, 'taken');
  mount();
  // `ext4` has a folder of its own.
  await rm(join(directory, 'lost+found'), { recursive: true, force: true });
  return {
    mount,
    unmount,
    setReadOnly: (isReadOnly) => run('mount', ['-o', `remount,bind,${isReadOnly ? 'ro' : 'rw'}`, directory]),
    fill: () => void spawnSync('dd', ['if=/dev/zero', `of=${taken}`, 'bs=4k']),
    useUpInodes: async () => {
      await mkdir(`${taken}-inodes`);
      for (let count = 0; await canCreate(join(`${taken}-inodes`, String(count))); count += 1);
    },
    free: async () => {
      await rm(taken, { force: true });
      await rm(`${taken}-inodes`, { recursive: true, force: true });
    },
    freeze: (isFrozen) => run('fsfreeze', [isFrozen ? '--freeze' : '--unfreeze', directory]),
    remove: async () => {
      removeMounts();
      await rm(place, { recursive: true, force: true });
    },
  };
}

async function canCreate(path: string): Promise<boolean> {
  try {
    await writeFile(path, '');
    return true;
  } catch {
    return false;
  }
}

function run(program: string, args: string[]): void {
  const { status, stderr, error } = spawnSync(program, args, { encoding: 'utf8' });
  if (error !== undefined) throw error;
  if (status !== 0) throw new Error(`${program} ${args.join(' ')}: ${stderr}`);
}
