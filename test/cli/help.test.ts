import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { commands } from '../../src/cli/commands.ts';
import { runCommand } from '../setup/cli/command.ts';

const page = await readFile(new URL('../../docs/client-commands.md', import.meta.url), 'utf8');
const named = commands.map((command) => [command.name, command] as const);

describe.each(named)('%s', (name, command) => {
  it.each(['--help', '-h'])('%s explains what it does, its options, exit codes and an example', async (option) => {
    const { code, stdout, stderr } = await runCommand(command, [option]);
    expect([code, stderr]).toEqual([0, '']);
    const [usage, about, options, exitCodes, examples] = stdout.split(/\n\n|\n(?=Options:|Exit codes:|Examples:)/);
    expect(usage).toMatch(name === 'dev' ? /^Usage: npm run dev$/ : new RegExp(`^Usage: node dist/main\\.js ${name}`));
    expect(about).toMatch(/^[A-Z][\s\S]*\.$/);
    expect(options).toMatch(/^Options:\n[\s\S]*-h, --help +show this help$/);
    expect(exitCodes).toMatch(/^Exit codes:(?:\n {2}\d+ +\S.*)+$/);
    expect(examples).toMatch(name === 'dev' ? /\n {2}npm run dev/ : new RegExp(`\\n  .*node dist/main\\.js ${name}`));
    expect(stdout.endsWith('\n')).toBe(true);
  });

  it('has lines of at most 120 characters', async () => {
    const { stdout } = await runCommand(command, ['--help']);
    expect(stdout.split('\n').filter((line) => line.length > 120)).toEqual([]);
  });
});

it('docs/client-commands.md contains every option of the client commands', () => {
  const labels = commands.flatMap(({ help }) => (help.options ?? []).map(([label]) => label));
  expect(labels).toContain('--json');
  expect(labels.filter((label) => !page.includes(`\`${label}`))).toEqual([]);
});
