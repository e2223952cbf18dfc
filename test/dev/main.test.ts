import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, readFile, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { plainEnvironment, waitForEnd } from '../../src/dev/processes.ts';
import { sampleByKind } from '../setup/depth.ts';
import { waitUntil } from '../setup/node/program.ts';

const root = fileURLToPath(new URL('../../', import.meta.url));

/** A folder like the checkout, with its own data. */
let checkout: string;
beforeAll(async () => {
  checkout = await mkdtemp(join(tmpdir(), 'loom-test-checkout-'));
  await chmod(checkout, 0o755);
  for (const name of ['package.json', 'src', 'node_modules']) await symlink(join(root, name), join(checkout, name));
});
afterAll(() => rm(checkout, { recursive: true, force: true }));

const environment = {
  ...plainEnvironment,
  PATH: `${dirname(process.execPath)}:${plainEnvironment.PATH}`,
  LOOM_PORT: '0',
};

test('npm run dev has its own entry point, with a help text', async () => {
  const { scripts } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8'));
  const [exec, program, ...args] = `${scripts.dev} --help`.split(' ');
  expect([exec, program]).toEqual(['exec', 'node']);
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8' });
  expect([status, stderr]).toEqual([0, '']);
  expect(stdout).toMatch(/^Usage: npm run dev\n\nStarts a PostgreSQL and a node on it/);
});

// npm forwards the first two to its child. The others end npm.
const signals = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGKILL'] as const;
test.each(sampleByKind(signals, () => 'signal', { purpose: 'signals of npm' }))(
  'the node and its PostgreSQL end when npm gets %s',
  async (signal) => {
    const npm = spawn('npm', ['run', 'dev'], {
      cwd: checkout,
      env: { ...environment, npm_config_cache: join(checkout, 'npm'), npm_config_update_notifier: 'false' },
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const npmEnded = once(npm, 'exit');
    let printed = '';
    npm.stdout.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
    });
    const isRunning = (text: string) => text.includes('LOOM runs at');
    await waitUntil(
      async () => printed,
      (text) => isRunning(text) || npm.exitCode !== null,
    );
    expect(printed).toSatisfy(isRunning);

    const files = ['owner', 'cluster/postmaster.pid'].map((name) => join(checkout, '.loom/postgres', name));
    const pids = await Promise.all(files.map(async (file) => Number.parseInt(await readFile(file, 'utf8'), 10)));
    npm.kill(signal);
    for (const pid of pids) expect(await waitForEnd(pid, 20_000)).toBe(true);
    await npmEnded;
    // The node has closed its PostgreSQL itself: the next start has nothing to clear away.
    expect(files.filter((file) => existsSync(file))).toEqual([]);
  },
);
