import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { inspect } from '../../../src/cli/inspect.ts';
import { restore } from '../../../src/cli/restore.ts';
import { verify } from '../../../src/cli/verify.ts';
import { writeBackup } from '../../setup/backup/written-backup.ts';
import { runCommand } from '../../setup/cli/command.ts';
import { ADMIN_TOKEN } from '../../setup/node/http.ts';

const text = writeBackup({ documents: [['a', '1']] });
const utf16 = Buffer.from(`\ufeff${text}`, 'utf16le');
const header = (hex: string): Buffer => Buffer.concat([Buffer.from(hex, 'hex'), Buffer.alloc(100, 7)]);

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'loom-hints-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

it.each<[string, string | Buffer, string]>([
  ['gzip inside of gzip', gzipSync(gzipSync(text)), 'gzip inside of gzip: unpack it once.'],
  ['a zip archive', header('504b0304'), 'looks like a zip archive: unpack it first.'],
  ['zstd', header('28b52ffd'), 'looks like zstd: unpack it first.'],
  ['bzip2', header('425a6839'), 'looks like bzip2: unpack it first.'],
  ['xz', header('fd377a585a00'), 'looks like xz: unpack it first.'],
  ['a byte order mark', `\ufeff${text}`, 'without one.'],
  ['UTF-16', utf16, 'looks like UTF-16: save it as UTF-8.'],
  ['a page', '<html></html>', 'an error page of a proxy: download the backup again.'],
  ['a page in gzip', gzipSync('<html></html>'), 'an error page of a proxy: download the backup again.'],
  ['a cut file', text.slice(0, -9), 'Download the backup again, or copy the file again.'],
  ['a cut gzip file', gzipSync(text).subarray(0, 200), 'Download the backup again, or copy the file again.'],
])('%s is explained', async (_what, content, hint) => {
  const file = join(folder, 'backup');
  await writeFile(file, content);
  for (const command of [verify, inspect]) {
    const done = await runCommand(command, [file]);
    expect([done.code, done.stdout.trimEnd().endsWith(hint)], done.stdout).toEqual([1, true]);
  }
  const env = { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: 'http://127.0.0.1:1' };
  const refused = await runCommand(restore, [file, '--yes'], { env });
  expect([refused.code, refused.stderr.trimEnd().endsWith(hint)], refused.stderr).toEqual([1, true]);
});

it('another fault of JSON has no such hint', async () => {
  const file = join(folder, 'backup');
  await writeFile(file, text.replace('{', '{,'));
  expect((await runCommand(verify, [file])).stdout).not.toMatch(/looks like|again/);
});
