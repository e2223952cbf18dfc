import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { ADMIN_TOKEN, createTestServer, type TestServer } from '../../setup/node/http.ts';
import { runCommandLine, runProgramToEnd } from '../../setup/node/program.ts';

let server: TestServer;
let url: string;
let folder: string;
let file: string;
beforeAll(async () => {
  server = await createTestServer();
  ({ url } = await server.listen());
  folder = await mkdtemp(join(tmpdir(), 'loom-program-'));
  file = join(folder, 'backup.json');
});
afterAll(async () => {
  await server.close({ timeoutMs: 1_000 });
  await rm(folder, { recursive: true, force: true });
});

describe('a client command of the real program', () => {
  it('reads the token from a file, makes a backup, and verifies it', async () => {
    const tokenFile = join(folder, 'token');
    await writeFile(tokenFile, `${ADMIN_TOKEN}\n`);
    const made = await runProgramToEnd(['backup', '--url', url, '--out', file], {
      LOOM_ADMIN_TOKEN_FILE: tokenFile,
    });
    expect(made).toMatchObject({ code: 0, output: expect.stringContaining('verified') });
    expect((await runProgramToEnd(['verify', file], {})).code).toBe(0);
  });

  it('keeps its exit code and reports no error when the reader of its output has closed the pipe', async () => {
    // The reader ends before the command begins.
    const unread = (args: string) =>
      runCommandLine(`exec 3> >(true); wait $!; node ${inject('programEntry')} ${args} >&3; echo "exit code $?"`, {
        directory: folder,
        env: { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: url },
      });
    const endedWith = (code: number) => ({ code: 0, stdout: `exit code ${code}\n`, stderr: '' });
    expect(await unread('status')).toEqual(endedWith(0));
    expect(await unread('drill --out drilled')).toEqual(endedWith(0));
    await writeFile(join(folder, 'bad.json'), '{}');
    expect(await unread('verify bad.json')).toEqual(endedWith(1));
    expect(await readdir(join(folder, 'drilled'))).toContain('report.json');
  });

  it('reports that the disk of standard output is full, and that the command succeeded', async () => {
    if (!existsSync('/dev/full')) return;
    const line = `node ${inject('programEntry')} backup --out full.json > /dev/full`;
    const env = { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: url };
    const { code, stderr } = await runCommandLine(line, { directory: folder, env });
    expect([code, stderr]).toEqual([
      1,
      'Could not write to standard output (ENOSPC). The command ended with exit code 0.\n',
    ]);
    expect((await runProgramToEnd(['verify', join(folder, 'full.json')], {})).code).toBe(0);
  });

  it('exits with 78 without a token, and with 64 for one on the command line', async () => {
    const env = { LOOM_URL: url };
    const without = await runProgramToEnd(['status'], env);
    expect(without).toMatchObject({ code: 78, output: expect.stringContaining('LOOM_ADMIN_TOKEN') });
    const given = await runProgramToEnd(['status', `--token=${ADMIN_TOKEN}`], env);
    expect(given).toMatchObject({ code: 64, output: expect.stringContaining('LOOM_ADMIN_TOKEN_FILE') });
    expect(given.output).not.toContain(ADMIN_TOKEN);
  });
});
