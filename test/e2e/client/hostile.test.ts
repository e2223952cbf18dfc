import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { backup } from '../../../src/cli/backup.ts';
import type { Command } from '../../../src/cli/command.ts';
import { drill } from '../../../src/cli/drill.ts';
import { inspect } from '../../../src/cli/inspect.ts';
import { restore } from '../../../src/cli/restore.ts';
import { status } from '../../../src/cli/status.ts';
import { undo } from '../../../src/cli/undo.ts';
import { verify } from '../../../src/cli/verify.ts';
import { entryText, writeBackup } from '../../setup/backup/written-backup.ts';
import { type CommandOptions, runCommand } from '../../setup/cli/command.ts';
import { type FakeNode, restoreReport, startFakeNode, statusReport, undoReport } from '../../setup/cli/fake-node.ts';
import { ADMIN_TOKEN } from '../../setup/node/http.ts';

/** Clears the screen, colors, hides, reverses and separates text, and imitates a line of LOOM. */
const HOSTILE = 'x\u001b[2J\u009b31m\u007f\u0007\u202e\u2066\u2028\u2029\u200b\u{e0041}\r\nFORGED yes';
const UNSAFE =
  // biome-ignore lint/suspicious/noControlCharactersInRegex: the expression looks for control characters
  /[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069\u{e0000}-\u{e007f}]/u;

/**
 * Asserts that a text can neither move the cursor nor imitate a line. A progress line may begin with its own sequence.
 */
function expectHarmless(text: string): void {
  const shown = text.replaceAll('\r\u001b[2K', '');
  expect(shown).not.toMatch(UNSAFE);
  expect(shown).not.toMatch(/^FORGED/m);
}

let node: FakeNode;
let folder: string;
let file: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'loom-hostile-'));
  file = join(folder, 'backup.json');
  await writeFile(file, hostileBackup());
});
afterEach(async () => {
  await node?.close();
  await rm(folder, { recursive: true, force: true });
});

/** A verified backup whose texts are hostile, as far as the format allows. */
function hostileBackup(): string {
  return writeBackup({
    header: {
      state_key: HOSTILE,
      exported_at: HOSTILE,
      instance_id: HOSTILE,
      epoch: HOSTILE,
      state_updated_at: HOSTILE,
    },
    documents: [['\u202e\u2066name', '1']],
    entries: [entryText(1, { action: HOSTILE, changes: '[]', more: { request_id: HOSTILE } })],
  });
}

/** Replaces every text in a report, except those that decide what a command does. */
function spoil<T>(value: T): T {
  const spare = new Set(['code']);
  const replaced = JSON.stringify(value, (name, member) =>
    typeof member === 'string' && !spare.has(name) ? HOSTILE : member,
  );
  return JSON.parse(replaced) as T;
}

async function runHostile(command: Command, args: string[], options: CommandOptions = {}) {
  const env = { LOOM_ADMIN_TOKEN: ADMIN_TOKEN, LOOM_URL: node.url };
  const questions: string[] = [];
  const answers = async (question: string): Promise<string> => {
    questions.push(question);
    return 'no';
  };
  const done = await runCommand(command, args, { env, answers, isWatched: true, ...options });
  expectHarmless(done.stdout);
  expectHarmless(done.stderr);
  expectHarmless(questions.join(''));
  return { ...done, questions };
}

describe('the answers of a hostile node reach the terminal only escaped', () => {
  beforeEach(async () => {
    const kept = {
      event_id: 'e',
      kind: 'restore',
      taken_at: 't',
      documents: 1,
      audit_entries: 1,
      bytes: 1,
      substantial: true,
    };
    const check = { ok: false, by: 'verify', checked_at: 't', from_seq: 1, to_seq: 2, first_bad_seq: 1 };
    const names = { added: ['a'], changed: ['b'], removed: ['c'], truncated: true };
    const documents = { added: 9, changed: 9, removed: 9, unchanged: 0 };
    const report = { document_names: names, documents, warnings: ['w', 'w'], epoch: 'e', event_id: 'e' };
    node = await startFakeNode({
      '/v1/admin/status': spoil(
        statusReport({
          ready: { ok: false, reason: 'r' },
          audit: { entries: 3, head: { seq: 3, hash: 'h' }, last_check: check },
          database: { ok: false, code: 'c', version: 'v', latency_ms: 1 },
          operations: [{ kind: 'restore', started_at: 's', request_id: 'r', documents: 1, audit_entries: 1, bytes: 1 }],
          undo: { kept_most: 3, bytes: 0, kept: [kept] },
          scratch_states: [{ state_key: 'k', created_at: 'c', documents: 1, bytes: 1, audit_entries: 1 }],
        }),
      ),
      '/v1/admin/persistence/restore': spoil(restoreReport({ ...report, scratch: null })),
      '/v1/admin/persistence/undo': spoil(undoReport(report)),
      '/v1/admin/persistence/backup': hostileBackup(),
      '/v1/audit/verify': spoil({
        ok: false,
        entries: 1,
        head: { seq: 1, hash: 'h' },
        first_bad_seq: 1,
        reason: 'r',
        detail: 'd',
      }),
      '/v1/audit': spoil({
        entries: [{ seq: 1, hash: 'h', action: 'a', event_id: 'e' }],
        head: { seq: 1, hash: 'h' },
        next: null,
      }),
    });
  });

  it.each<[string, Command, string[]]>([
    ['status', status, []],
    ['status --json', status, ['--json']],
    ['undo', undo, []],
    ['undo --yes', undo, ['--yes']],
    ['undo --json', undo, ['--yes', '--json']],
    ['backup', backup, ['--out', 'OUT']],
    ['backup --json', backup, ['--out', 'OUT', '--json']],
    ['restore', restore, ['FILE']],
    ['restore --yes', restore, ['FILE', '--yes', '--accept-instance']],
    ['restore --json', restore, ['FILE', '--yes', '--json']],
    ['verify', verify, ['FILE', '--against', 'FILE']],
    ['verify --json', verify, ['FILE', '--json']],
    ['inspect', inspect, ['FILE']],
    ['inspect --json', inspect, ['FILE', '--json']],
    ['drill', drill, []],
    ['drill --file', drill, ['--file', 'FILE', '--accept-state-key', 'x']],
    ['drill --json', drill, ['--json']],
  ])('%s', async (_name, command, args) => {
    const paths: Record<string, string> = { FILE: file, OUT: join(folder, 'out.json') };
    const { stdout, stderr } = await runHostile(
      command,
      args.map((one) => paths[one] ?? one),
    );
    expect(`${stdout}${stderr}`).toContain('u001b[2J');
  });

  it('files of a drill', async () => {
    const out = join(folder, 'drill');
    await runHostile(drill, ['--out', out]);
    for (const name of ['report.json', 'summary.md']) expectHarmless(await readFile(join(out, name), 'utf8'));
    expect(JSON.parse(await readFile(join(out, 'report.json'), 'utf8')).node.state_key).toBe(HOSTILE);
  });

  it('the commands to copy are one word for a shell', async () => {
    const { stdout } = await runHostile(restore, [file, '--yes', '--accept-instance']);
    expect(stdout).toMatch(/^To undo it: node dist\/main\.js undo --event-id 'x\\u001b[^']*'$/m);
  });
});

it.each<[string, Command, string[]]>([
  ['status', status, []],
  ['undo', undo, ['--yes']],
  ['backup', backup, ['--out', 'OUT']],
  ['restore', restore, ['FILE', '--yes']],
  ['drill', drill, []],
])('%s shows a hostile refusal only escaped', async (_name, command, args) => {
  const place = { pointer: HOSTILE, document: HOSTILE, request_id: HOSTILE };
  const problem = { code: 'internal', detail: HOSTILE, ...place };
  node = await startFakeNode({ '/': problem });
  const paths: Record<string, string> = { FILE: file, OUT: join(folder, 'out.json') };
  for (const more of [[], ['--json']]) {
    const { code } = await runHostile(command, [...args.map((one) => paths[one] ?? one), ...more]);
    expect(code).toBe(1);
  }
});

it.each<[string, Command, string[]]>([
  ['status', status, []],
  ['undo', undo, ['--yes']],
  ['restore', restore, ['FILE', '--yes']],
  ['drill', drill, []],
])('%s explains an answer whose members have another type', async (_name, command, args) => {
  const members = { state: null, state_key: 1, database: null, ready: {}, dry_run: true, revision: 1, undone: {} };
  node = await startFakeNode({ '/': { ...members, documents: null, audit: null, entries: 0, head: null } });
  const { code, stdout, stderr } = await runHostile(
    command,
    args.map((one) => (one === 'FILE' ? file : one)),
  );
  expect(code).toBe(1);
  if (command !== drill) expect(stderr).toContain('failed: unexpected_answer');
  expect(`${stdout}${stderr}`).not.toMatch(/^\s+at /m);
});

it('status bounds its lists, and says how many more there are', async () => {
  const states = Array.from({ length: 1_000 }, (_none, index) => ({
    state_key: `s${index}`,
    created_at: 't',
    documents: 0,
    bytes: 0,
  }));
  node = await startFakeNode({ '/v1/admin/status': statusReport({ scratch_states: states }) });
  const { stdout } = await runHostile(status, []);
  expect(stdout.split('\n').length).toBeLessThan(50);
  expect(stdout).toContain('… (980 more: see --json)');
  expect(JSON.parse((await runHostile(status, ['--json'])).stdout).scratch_states).toHaveLength(1_000);
});
