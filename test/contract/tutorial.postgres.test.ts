import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { plainEnvironment } from '../../src/dev/processes.ts';
import { createAnswerRecord } from '../setup/answers/records.ts';
import { waitUntilReady } from '../setup/node/program.ts';
import { openShell, readPage, type Shell } from './rules/page.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));
const START = 'npm ci && npm run dev\n';

let folder: Shell;
let shell: Shell;
let dev: ChildProcess;
const record = createAnswerRecord();
beforeAll(async () => {
  folder = await openShell({}, {});
  const { child, url, token } = await startDev(folder.directory);
  dev = child;
  await waitUntilReady(url);
  shell = await openShell(
    {},
    {
      'http://127.0.0.1:8787': url,
      'LOOM_ADMIN_TOKEN=…': `LOOM_ADMIN_TOKEN=${token} LOOM_URL=${url}`,
      // The test run has already built the program in the same way.
      'npm run build': 'true',
    },
  );
});
afterAll(async () => {
  dev.kill('SIGTERM');
  if (dev.exitCode === null) await once(dev, 'close');
  record?.check();
  await shell.close();
  await folder.close();
});

test('every command of the tutorial works and prints what the page shows', { timeout: 120_000 }, async () => {
  const [first, ...steps] = await readPage('tutorial.md');
  expect(first?.commands).toBe(START);
  for (const step of steps) await shell.run(step);
  expect(await readdir(shell.directory)).toEqual(['.variables']);
});

test('README.md begins with the same command', async () => {
  expect(await readFile(new URL('../../README.md', import.meta.url), 'utf8')).toContain(START.trim());
});

/** Runs the script `dev` of `package.json` in a folder, on a free port. Resolves when it has printed its token. */
async function startDev(directory: string): Promise<{ child: ChildProcess; url: string; token: string }> {
  const { scripts } = JSON.parse(await readFile(`${root}package.json`, 'utf8'));
  const script = String(scripts.dev)
    .replace(
      '--import tsx',
      `${record === undefined ? '' : `'${record.option}'`} --import ${import.meta.resolve('tsx')}`,
    )
    .replace(' src/', ` ${root}src/`);
  const child = spawn('bash', ['--norc', '-c', script], {
    cwd: directory,
    env: { ...plainEnvironment, PATH: `${dirname(process.execPath)}:${plainEnvironment.PATH}`, LOOM_PORT: '0' },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let printed = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.on('data', (chunk: Buffer) => {
      printed += chunk.toString();
    });
  }
  for (;;) {
    const [, token, url] = /LOOM_ADMIN_TOKEN=(\S+)[\s\S]*?(http:\/\/[\d.]+:\d+)\/ready/.exec(printed) ?? [];
    if (token !== undefined && url !== undefined) return { child, url, token };
    if (child.exitCode !== null) throw new Error(`npm run dev ended before it was ready: ${printed}`);
    await Promise.race([once(child.stdout, 'data'), once(child, 'close')]);
  }
}
