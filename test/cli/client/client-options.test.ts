import { describe, expect, it } from 'vitest';
import { backup } from '../../../src/cli/backup.ts';
import type { Command } from '../../../src/cli/command.ts';
import { drill } from '../../../src/cli/drill.ts';
import { inspect } from '../../../src/cli/inspect.ts';
import { restore } from '../../../src/cli/restore.ts';
import { status } from '../../../src/cli/status.ts';
import { undo } from '../../../src/cli/undo.ts';
import { verify } from '../../../src/cli/verify.ts';
import { ConfigError, parseClientConfig } from '../../../src/config/config.ts';
import { runCommand } from '../../setup/cli/command.ts';

const commands: [string, Command][] = Object.entries({ backup, restore, status, undo, drill });
const token = 'a-token-that-must-not-show';
const env = { LOOM_ADMIN_TOKEN: 'an-admin-token-for-tests', LOOM_URL: 'http://127.0.0.1:1' };
const readFile = (): string => {
  throw new Error('this test reads no file');
};

describe.each(commands)('%s', (name, command) => {
  it.each([
    ['--token', token],
    [`--token=${token}`],
    [`--admin-token=${token}`],
    [`-token=${token}`],
    [`--TOKEN=${token}`],
  ])('refuses a token on the command line and does not repeat it: %s', async (...args) => {
    const { code, stdout, stderr } = await runCommand(command, args, { env });
    expect([code, stdout]).toEqual([64, '']);
    expect(stderr).toContain('LOOM_ADMIN_TOKEN_FILE');
    expect(stderr).not.toContain(token);
  });

  it.each([
    ['an unknown option', ['--nonsense=1']],
    ['too many arguments', ['one', 'two', 'three']],
    ['an invalid URL', ['--url', 'nowhere']],
    ['a URL with a password', ['--url', `http://user:${token}@127.0.0.1`]],
    ['a URL without a value', ['--url']],
  ])('refuses %s with the reason, and says how to get help', async (_what, args) => {
    const { code, stdout, stderr } = await runCommand(command, args, { env });
    expect([code, stdout]).toEqual([64, '']);
    expect(stderr).toMatch(new RegExp(`^${name}: .+\\.\nSee node dist/main.js ${name} --help\\.\n$`));
    expect(stderr).not.toContain(token);
  });

  it('shows its help without a token or a node', async () => {
    const { code, stdout, stderr } = await runCommand(command, ['--help']);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain(`Usage: node dist/main.js ${name} `);
    expect(stdout).toContain('--url URL');
  });
});

it.each<[string, Command, string[]]>([
  ['backup without a file', backup, []],
  ['a limit for an omitted audit trail', backup, ['--out', 'x', '--no-audit', '--audit-limit', '1']],
  ['a limit of 0', backup, ['--out', 'x', '--audit-limit', '0']],
  ['a limit that is not a whole number', backup, ['--out', 'x', '--audit-limit', '1e3']],
  ['a backup into a pipe', backup, ['--out', '-']],
  ['another state key for a backup that the drill takes', drill, ['--accept-state-key', 'other']],
  ['restore without a file', restore, ['--yes']],
  ['a revision that is not a whole number', restore, ['x', '--yes', '--expect-revision', '-1']],
  ['a scratch state that no URL can name', restore, ['x', '--yes', '--into-scratch', '..']],
  [
    'a scratch state with an expected revision',
    restore,
    ['x', '--yes', '--into-scratch', 's', '--expect-revision', '1'],
  ],
  ['a selected document without a name', restore, ['x', '--yes', '--document', '']],
  ['a selected document that keeps its state', restore, ['x', '--yes', '--document', 'a', '--keep-state']],
  ['a selected document with a truncated trail', restore, ['x', '--yes', '--document', 'a', '--truncate-audit']],
  ['a selected document in a scratch state', restore, ['x', '--yes', '--document', 'a', '--into-scratch', 's']],
  ['too many selected documents', restore, ['x', '--yes', ...Array.from({ length: 1_001 }, () => '--document=a')]],
  ['a scratch state that keeps its documents', restore, ['x', '--yes', '--into-scratch', 's', '--keep-state']],
])('%s is a usage error', async (_what, command, args) => {
  expect(await runCommand(command, args, { env })).toMatchObject({ code: 64, stdout: '' });
});

it.each<[string, Command]>([
  ['verify', verify],
  ['inspect', inspect],
])('%s shows its help on request, and with an error only the reason and how to get help', async (name, command) => {
  for (const asked of ['--help', '-h']) {
    const { code, stdout, stderr } = await runCommand(command, [asked]);
    expect([code, stderr]).toEqual([0, '']);
    expect(stdout).toContain(`Usage: node dist/main.js ${name} FILE`);
    expect(stdout.includes('--against EARLIER')).toBe(name === 'verify');
  }
  const see = `See node dist/main.js ${name} --help.\n`;
  for (const [args, reason] of [
    [[], 'takes one file.'],
    [['a', 'b'], 'takes one file.'],
    [['a', '--nonsense'], "Unknown option '--nonsense'."],
  ] as const) {
    const wrong = await runCommand(command, [...args]);
    expect(wrong).toEqual({ code: 64, stdout: '', stderr: `${name}: ${reason}\n${see}` });
  }
});

it('an option in place of a value is explained', async () => {
  const { code, stderr } = await runCommand(backup, ['--out', '--gzip'], { env });
  expect([code, stderr]).toEqual([
    64,
    "backup: Option '--out' argument is ambiguous. It needs a value: --out FILE.\nSee node dist/main.js backup --help.\n",
  ]);
});

describe('the address of the node and the token come from', () => {
  const parse = (variables: Record<string, string>, url?: string) =>
    parseClientConfig({ LOOM_ADMIN_TOKEN: env.LOOM_ADMIN_TOKEN, ...variables }, { readFile, ...(url ? { url } : {}) });

  it.each<[string, Record<string, string>, string | undefined, string]>([
    ['the defaults', {}, undefined, 'http://127.0.0.1:8787'],
    ['host and port of the node', { LOOM_HOST: '0.0.0.0', LOOM_PORT: '99' }, undefined, 'http://127.0.0.1:99'],
    ['the wildcard address of IPv6', { LOOM_HOST: '::' }, undefined, 'http://[::1]:8787'],
    ['an address of IPv6', { LOOM_HOST: 'fd00::1' }, undefined, 'http://[fd00::1]:8787'],
    ['LOOM_URL', { LOOM_URL: 'https://loom.example/path', LOOM_PORT: '99' }, undefined, 'https://loom.example/path'],
    ['the option', { LOOM_URL: 'https://loom.example' }, 'http://[::1]:9', 'http://[::1]:9'],
  ])('%s', (_what, variables, url, expected) => {
    expect(parse(variables, url).url).toBe(expected);
  });

  it('the first of two tokens, and no database', () => {
    expect(parse({ LOOM_ADMIN_TOKEN: 'the-newer-token-of-two,the-older-token-of-two' }).token).toBe(
      'the-newer-token-of-two',
    );
  });

  it.each([
    ['no token', { LOOM_ADMIN_TOKEN: '' }, 'LOOM_ADMIN_TOKEN is required'],
    ['a short token', { LOOM_ADMIN_TOKEN: 'short' }, 'LOOM_ADMIN_TOKEN must have at least'],
    ['a URL of another scheme', { LOOM_URL: 'ftp://loom' }, 'LOOM_URL must have the form'],
    ['a password in the URL', { LOOM_URL: `http://u:${token}@loom` }, 'LOOM_URL must have the form'],
  ])('%s is a configuration error that does not show the value', (_what, variables, problem) => {
    expect(() => parse(variables)).toThrow(problem);
    expect(() => parse(variables)).toThrow(ConfigError);
    expect(() => parse(variables)).not.toThrow(token);
  });
});
