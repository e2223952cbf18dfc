import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { inspect } from '../../src/cli/inspect.ts';
import { verify } from '../../src/cli/verify.ts';
import { append, backupOf, put, truncate } from '../setup/backup/trails.ts';
import { runCommand } from '../setup/cli/command.ts';
import { runProgramToEnd } from '../setup/node/program.ts';

const good = fileURLToPath(new URL('../fixtures/backups/schema-1.json', import.meta.url));
let directory: string;
let text: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), 'loom-verify-'));
  text = await readFile(good, 'utf8');
});
afterAll(() => rm(directory, { recursive: true, force: true }));

async function write(name: string, content: string | Buffer): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, content);
  return path;
}

interface Verified {
  code: number;
  output: string;
}

/** Runs `verify` in this process. Each start of the program takes longer than the verification of these files. */
async function runVerify(args: string[]): Promise<Verified> {
  const { code, stdout, stderr } = await runCommand(verify, args);
  return { code, output: stdout + stderr };
}

async function verifyFile(content: string | Buffer): Promise<Verified> {
  return await runVerify([await write('backup.json', content)]);
}

async function verifyAgainst(file: string | Buffer, earlier: string | Buffer): Promise<Verified> {
  const paths = [await write('earlier.json', earlier), await write('backup.json', file)];
  return await runVerify(['--against', ...paths]);
}

it.each([verify, inspect])('a stopped command ends with the code interrupted, also as JSON', async (command) => {
  const stop = AbortSignal.abort();
  const { code, stderr } = await runCommand(command, [good], { stop });
  expect([code, stderr]).toEqual([1, `${command.name} failed: interrupted\nInterrupted.\n`]);
  const { stdout } = await runCommand(command, [good, '--json'], { stop });
  expect(JSON.parse(stdout)).toMatchObject({ ok: false, code: 'interrupted' });
});

it('a restore that claims other changes than the entries after it have is not ok', async () => {
  const trail = append(put([], 1), { action: 'restore', restore: { recorded_changes: 3 } });
  const path = await write('claims.json', backupOf(trail));
  const detail = 'Entry 2 claims 3 recorded changes, and the entries that follow it have 0.';
  const { code, stdout } = await runCommand(verify, [path]);
  expect([code, stdout]).toEqual([
    1,
    expect.stringMatching(`^not ok: changes_mismatch \\(audit entry 2\\)\n${detail}\nstate `),
  ]);
  const json = await runCommand(verify, [path, '--json']);
  const mismatch = { document: null, seq: 2, how: 'recorded_changes', claimed: '3', recorded: 0 };
  expect(JSON.parse(json.stdout)).toMatchObject({
    ok: false,
    code: 'changes_mismatch',
    detail,
    place: { file: path, seq: 2 },
    trail: { mismatches: [mismatch], mismatch_count: 1 },
  });
});

it.each([
  [
    'checksum was changed',
    (packed: Buffer) => Buffer.concat([packed.subarray(0, -8), Buffer.alloc(4), packed.subarray(-4)]),
  ],
  ['data is followed by text', (packed: Buffer) => Buffer.concat([packed, Buffer.from('more')])],
])('gzip data whose %s is damaged at or after the place that is named', async (_, spoil) => {
  const { code, stdout } = await runCommand(verify, [await write('damaged.json.gz', spoil(gzipSync(text)))]);
  expect([code, stdout]).toEqual([
    1,
    expect.stringMatching(
      /^not ok: malformed_request .*\nThe gzip data is damaged, at or after byte \d+ of the decoded data\.\n$/,
    ),
  ]);
});

it('a good backup is ok, plain and gzip, and the output says what was not checked', async () => {
  for (const content of [text, gzipSync(text), JSON.stringify(JSON.parse(text))]) {
    // The program, without any variable: it needs neither a database nor a token.
    const { code, output } = await runProgramToEnd(['verify', await write('backup.json', content)], {});
    expect(output).toMatch(/^ok: state "default" at revision 21/);
    expect(output).toContain('15 documents and 21 audit entries');
    expect(output).toContain('not checked: whether this is what the node had');
    expect(output).toContain(JSON.parse(text).manifest.sha256);
    expect(code).toBe(0);
  }
});

it('a restore request is refused as a backup', async () => {
  for (const command of ['verify', 'inspect']) {
    const request = await write('request.json', `{"confirm":"restore","dry_run":true,"backup":${text}}`);
    const { code, output } = await runProgramToEnd([command, request], {});
    expect(output).toMatch(/^not (ok|readable): backup_malformed \(byte 36, at \/backup\)\n/);
    expect(output).toContain(
      '\nThe file is a restore request: its member "backup" contains the backup. Pass the backup itself.\n',
    );
    expect(code).toBe(1);
  }
});

it.each([
  ['changed', (whole: string) => whole.replace(/"state_sha256":"./, '"state_sha256":"x'), 'backup_malformed'],
  ['cut off', (whole: string) => Buffer.from(whole).subarray(0, 3000), 'backup_incomplete (byte 3000'],
  ['cut off in its gzip', (whole: string) => gzipSync(whole).subarray(0, 500), 'backup_incomplete (byte'],
  ['empty', () => '', 'invalid_json (byte 0'],
  ['an error page', () => '<html>Bad gateway</html>', 'invalid_json (byte 0'],
])('a backup that is %s is not ok, with code and place', async (_what, spoil, verdict) => {
  const { code, output } = await verifyFile(spoil(text));
  expect(output).toContain(`not ok: ${verdict}`);
  expect(code).toBe(1);
});

it('a missing file and a missing argument have their own errors', async () => {
  const nothing = join(directory, 'nothing');
  for (const [args, output] of [
    [['verify', nothing], `verify failed: ${nothing}: There is no such file or folder.\n`],
    [['inspect', directory], `inspect failed: ${directory}: This is a folder, not a file.\n`],
    [['verify', good, '--against', nothing], `verify failed: EARLIER: ${nothing}: There is no such file or folder.\n`],
  ] as const) {
    expect(await runProgramToEnd([...args], {})).toEqual({ code: 1, output });
  }
  const usage = { code: 64, output: 'verify: takes one file.\nSee node dist/main.js verify --help.\n' };
  expect(await runProgramToEnd(['verify'], {})).toEqual(usage);
});

const trail = put([], 'a', 'b', 'c', 'd', 'e');
const early = { exportedAt: '2026-01-01T00:00:00.000000Z' };

it('against an earlier backup, plain or gzip, a continued audit trail is ok, with the reason', async () => {
  const header = { epoch: 'other\u001b[2J\nepoch' };
  const { code, output } = await verifyAgainst(
    gzipSync(backupOf(put(trail, 'f'), { header })),
    gzipSync(backupOf(trail)),
  );
  expect(output).toMatch(/^ok: state "default" at revision 6/);
  expect(output).toContain(`ok against EARLIER: FILE continues its audit trail; it has entry 5, ${trail[4]?.hash}`);
  expect(output).toContain(String.raw`note: the epoch was "epoch" and is "other\u001b[2J\nepoch"`);
  expect(code).toBe(0);
});

it('against an earlier backup, a missing tail is reported with its first entry', async () => {
  const { code, output } = await verifyAgainst(backupOf(trail.slice(0, 3)), backupOf(trail, early));
  expect(output).toMatch(/^not ok: audit_history_lost \(audit entry 4\)\nFILE lacks the last entries of EARLIER: /);
  expect(code).toBe(1);
  const older = await verifyAgainst(backupOf(trail, early), backupOf(put(trail, 'f')));
  expect(older.output).toMatch(/^not ok: audit_history_unproven\nFILE is older than EARLIER/);
  expect(older.code).toBe(1);
});

it('against an earlier backup, entries that a restore removed are announced with ATTENTION', async () => {
  const restored = put(truncate(trail, 2, 'the "drill"'), 'g');
  const { code, output } = await verifyAgainst(backupOf(restored), backupOf(trail));
  expect(output).toContain('\nATTENTION: entries 3 to 5 of EARLIER are not in the audit trail of FILE');
  expect(output).toContain(
    String.raw`The restore in entry 3, recorded at 2026-01-01T00:00:00.000000Z with request id "the \"drill\""`,
  );
  expect(output).toContain('removed 3 entries from the audit trail, 3 to 5');
  expect(code).toBe(0);
});

it('a fault of the earlier backup is distinguished from a fault of the file', async () => {
  const bad = backupOf(trail).replace('"value":"c"', '"value":"x"');
  expect(await verifyAgainst(backupOf(trail), bad)).toMatchObject({
    code: 1,
    output: expect.stringMatching(/^not ok: EARLIER: backup_chain_broken \(audit entry 3/),
  });
  expect(await verifyAgainst(bad, backupOf(trail))).toMatchObject({
    code: 1,
    output: expect.stringMatching(/^not ok: backup_chain_broken \(audit entry 3/),
  });
});

it('options are accepted at any position, and unknown ones are refused', async () => {
  const path = await write('earlier.json', backupOf(trail));
  for (const args of [
    [path, '--against', path],
    [path, `--against=${path}`],
    ['--against', path, path],
  ]) {
    expect(await runProgramToEnd(['verify', ...args], {})).toMatchObject({ code: 0 });
  }
  for (const [reason, ...args] of [
    ['takes one file', path, path],
    ['takes one file', '--against', path],
    ["Option '--against <value>' argument missing", path, '--against'],
    ["Unknown option '--agianst'", path, '--agianst', path],
    ['--against can be given only once', path, '--against', path, '--against', path],
  ] as const) {
    const output = `verify: ${reason}.\nSee node dist/main.js verify --help.\n`;
    expect(await runVerify(args)).toEqual({ code: 64, output });
  }
  expect(await runProgramToEnd(['inspect', path, '--against', path], {})).toMatchObject({ code: 64 });
});

it('the backup of a public LOOM node is not ok, and the output names the restore that accepts it', async () => {
  const { loom_backup_version, backend, state_key, schema_version, exported_at, state } = JSON.parse(text);
  const entry = { event_id: 'e', timestamp: 't', action: 'a', payload: {}, prev_hash: null, hash: 'h' };
  const audit_entries = [entry];
  const { code, output } = await verifyFile(
    JSON.stringify({ loom_backup_version, backend, state_key, schema_version, exported_at, state, audit_entries }),
  );
  expect(output).toMatch(/^not ok: backup_unverified/);
  expect(output).toContain('A restore accepts it unverified');
  expect(code).toBe(1);
});

interface Inspected {
  state: object;
  audit_entries: { action: string }[];
  manifest: { sha256: string };
}

it('inspect counts documents as status does, and shows the times of a public node’s entries', async () => {
  // PostgreSQL writes the documents as {"a": [1, 2], "bb": "x"} and 1.5.
  const state = '{"one":{"bb":"x","a":[1,2]},"two":1.50}';
  const entries = ['2026-01-01T00:00:00Z', '2026-02-01T00:00:00Z'].map((timestamp) => ({ timestamp, action: 'x' }));
  const path = await write('public.json', `{"state":${state},"audit_entries":${JSON.stringify(entries)}}`);
  const { output } = await runProgramToEnd(['inspect', path], {});
  expect(output).toMatch(/^documents +2, 27 bytes$/m);
  expect(output).toMatch(/^ +24 bytes +"one"$/m);
  expect(output).toMatch(/^audit entries +2, from 2026-01-01T00:00:00Z to 2026-02-01T00:00:00Z$/m);
});

it('inspect shows what is in a backup, and says that it checks nothing', async () => {
  const { code, output } = await runProgramToEnd(['inspect', good], {});
  const { state, audit_entries: entries, manifest } = JSON.parse(text) as Inspected;
  expect(code).toBe(0);
  expect(output).toMatch(new RegExp(`manifest +sha256 ${manifest.sha256}\n`));
  expect(output).toContain('state key default');
  expect(output).toMatch(new RegExp(`documents +${Object.keys(state).length}, \\d+ bytes`));
  expect(output).toMatch(new RegExp(`audit entries +${entries.length}, seq 1 to 21, from 2026-`));
  const puts = entries.filter(({ action }) => action === 'document.put').length;
  expect(output).toContain(`${puts} × "document.put"`);
  expect(output).toContain('Nothing was checked');
  const path = await write('cut.json', Buffer.from(text).subarray(0, 3000));
  expect(await runProgramToEnd(['inspect', path], {})).toMatchObject({
    code: 1,
    output: expect.stringContaining('not readable: backup_incomplete'),
  });
});
