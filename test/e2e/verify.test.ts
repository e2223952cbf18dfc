import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { runProgramToEnd } from '../setup/program.ts';

const good = fileURLToPath(new URL('../fixtures/backups/schema-1.json', import.meta.url));
let directory: string;
let text: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'loom-verify-'));
  text = await readFile(good, 'utf8');
});
afterAll(() => rm(directory, { recursive: true, force: true }));

/** No environment at all: neither a database nor a token is needed. */
async function verifyFile(content: string | Buffer): Promise<{ code: number; output: string }> {
  const path = join(directory, 'backup.json');
  await writeFile(path, content);
  return await runProgramToEnd(['verify', path], {});
}

it('a good backup is found good, plain and gzip, and what was not checked is said', async () => {
  for (const content of [text, gzipSync(text), JSON.stringify(JSON.parse(text))]) {
    const { code, output } = await verifyFile(content);
    expect(output).toMatch(/^ok: state "default" at revision 21/);
    expect(output).toContain('15 documents and 21 audit entries');
    expect(output).toContain('not checked: whether this is what the node held');
    expect(code).toBe(0);
  }
});

it.each([
  ['changed', (whole: string) => whole.replace(/"state_sha256":"./, '"state_sha256":"x'), 'backup_malformed'],
  ['cut off', (whole: string) => Buffer.from(whole).subarray(0, 3000), 'backup_incomplete (byte 3000'],
  ['cut off in its gzip', (whole: string) => gzipSync(whole).subarray(0, 500), 'backup_incomplete (byte'],
  ['empty', () => '', 'invalid_json (byte 0'],
  ['an error page', () => '<html>Bad gateway</html>', 'invalid_json (byte 0'],
])('a backup that is %s is found bad, with code and place', async (_what, spoil, verdict) => {
  const { code, output } = await verifyFile(spoil(text));
  expect(output).toContain(`not ok: ${verdict}`);
  expect(code).toBe(1);
});

it('a file that is not there, and a missing argument, are errors of their own', async () => {
  expect(await runProgramToEnd(['verify', join(directory, 'nothing')], {})).toMatchObject({ code: 1 });
  expect(await runProgramToEnd(['verify'], {})).toMatchObject({ code: 64, output: expect.stringContaining('Usage') });
});

it('inspect shows what is in a backup, and says that it checks nothing', async () => {
  const { code, output } = await runProgramToEnd(['inspect', good], {});
  const { state, audit_entries: entries } = JSON.parse(text) as { state: object; audit_entries: { action: string }[] };
  expect(code).toBe(0);
  expect(output).toContain('state key default');
  expect(output).toMatch(new RegExp(`documents +${Object.keys(state).length}, \\d+ bytes`));
  expect(output).toMatch(new RegExp(`audit entries +${entries.length}, seq 1 to 21, from 2026-`));
  const puts = entries.filter(({ action }) => action === 'document.put').length;
  expect(output).toContain(`${puts} × "document.put"`);
  expect(output).toContain('Nothing was checked');
  const path = join(directory, 'cut.json');
  await writeFile(path, Buffer.from(text).subarray(0, 3000));
  expect(await runProgramToEnd(['inspect', path], {})).toMatchObject({
    code: 1,
    output: expect.stringContaining('not readable: backup_incomplete'),
  });
});
