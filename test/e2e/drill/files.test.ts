import { lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, inject, it } from 'vitest';
import { drill } from '../../../src/cli/drill.ts';
import { runCommand } from '../../setup/cli/command.ts';
import { runDrill, useDrillSite } from '../../setup/cli/drill.ts';
import { ADMIN_TOKEN } from '../../setup/node/http.ts';
import { runCommandLine } from '../../setup/node/program.ts';

const site = useDrillSite();
const env = () => ({ LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: site.proxy.url });

it('without --out, the drill leaves the current folder as it is, and prints the summary', async () => {
  const foreign = { 'report.json': 'mine', 'summary.md': 'mine too', 'backup.json': 'my backup' };
  for (const [name, text] of Object.entries(foreign)) await writeFile(join(site.out, name), text);
  const temporary = await mkdtemp(join(tmpdir(), 'loom-drill-tmp-'));
  const line = `node ${inject('builtEntry')} drill`;
  const done = await runCommandLine(line, { directory: site.out, env: { ...env(), TMPDIR: temporary } });
  expect(done).toMatchObject({ code: 0, stdout: expect.stringMatching(/^# Restore drill: passed\n/) });
  expect((await readdir(site.out)).toSorted()).toEqual(Object.keys(foreign).toSorted());
  for (const [name, text] of Object.entries(foreign)) expect(await readFile(join(site.out, name), 'utf8')).toBe(text);
  expect(await readdir(temporary)).toEqual([]);
  await rm(temporary, { recursive: true });
});

it.each([
  ['report.json', 'mine', []],
  ['report.json', '{"mine":true}', []],
  ['summary.md', '# My summary', []],
  ['backup.json', '{"mine":true}', ['--keep']],
])('refuses to begin when something else wrote %s (%s)', async (name, text, args) => {
  const path = join(site.out, name);
  await writeFile(path, text);
  const done = await runCommand(drill, ['--out', site.out, ...args], { env: env() });
  expect(done).toEqual({
    code: 1,
    stdout: '',
    stderr: `drill failed: ${path}: No drill wrote this file, so the drill does not replace it. Name another folder with --out.\n`,
  });
  expect(await readFile(path, 'utf8')).toBe(text);
  expect(site.proxy.asked).toEqual([]);
});

it('replaces the files of an earlier drill, and they are for their owner alone', async () => {
  const out = join(site.out, 'new', 'folder');
  for (const _time of [1, 2]) {
    expect((await runCommand(drill, ['--out', out, '--keep'], { env: env() })).code).toBe(0);
  }
  expect((await readdir(out)).toSorted()).toEqual(['backup.json', 'report.json', 'summary.md']);
  for (const name of await readdir(out)) expect((await stat(join(out, name))).mode & 0o777).toBe(0o600);
  for (const folder of [out, join(site.out, 'new')]) expect((await stat(folder)).mode & 0o777).toBe(0o700);
});

it('follows no symbolic link: it replaces the link, and leaves the target alone', async () => {
  const target = join(site.out, 'target');
  const content = 'not for a drill';
  await writeFile(target, content);
  const out = join(site.out, 'drill');
  await mkdir(out);
  for (const name of ['report.json', 'summary.md', 'backup.json']) await symlink(target, join(out, name));
  await symlink(target, join(out, 'backup.json.part'));
  const busy = await runCommand(drill, ['--out', out, '--keep'], { env: env() });
  expect(busy).toMatchObject({ code: 1, stderr: expect.stringContaining('in progress') });
  await rm(join(out, 'backup.json.part'));
  expect((await runCommand(drill, ['--out', out, '--keep'], { env: env() })).code).toBe(0);
  for (const name of ['report.json', 'summary.md', 'backup.json']) {
    expect((await lstat(join(out, name))).isFile()).toBe(true);
  }
  expect(await readFile(target, 'utf8')).toBe(content);
});

it('--keep needs --out', async () => {
  expect(await runCommand(drill, ['--keep'], { env: env() })).toMatchObject({
    code: 64,
    stderr: expect.stringContaining('--keep needs --out DIR'),
  });
});

it('on a terminal, shows each step with its time', async () => {
  const { stderr } = await runDrill(site, [], { isWatched: true });
  expect(stderr).toMatch(/ok {6}status \(\d+\.\d\d s\)\n/);
  expect(stderr).toContain('the node checks and applies');
});
